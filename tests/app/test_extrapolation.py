"""Intervals beyond the trained horizon."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from app.extrapolation import join_blocks, median_index
from app.runner.engine import OrtEngine

HORIZON, MEDIAN = 8, 1
FLOAT32_TOLERANCE = 1e-5
STARTER = Path(__file__).parents[2] / "model_repository" / "monthly" / "1" / "model.onnx"
NUM_SERIES, LENGTH = 60, 96
COVERAGE_LOSS = 0.1
"""Of 60 walks, whose errors far ahead hang together, a few may go astray."""


def block_of(spread: NDArray[np.float64], level: float = 100.0) -> NDArray[np.float32]:
    """Three quantiles, ``spread`` below and above ``level``."""
    quantiles = level + np.stack([-spread, np.zeros_like(spread), spread], -1)
    return quantiles[np.newaxis].astype(np.float32)


def widths(joined: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((joined[0, :, 2] - joined[0, :, 0]) / 2, np.float32)


def test_one_block_stays_as_it_is() -> None:
    block = block_of(np.ones(HORIZON))
    assert join_blocks([block], MEDIAN, is_nonnegative=False) is block


def test_intervals_of_a_random_walk_grow_on_as_its_square_root() -> None:
    steps = np.arange(1, 3 * HORIZON + 1)
    blocks = [block_of(np.sqrt(steps[:HORIZON]))] * 3
    joined = join_blocks(blocks, MEDIAN, is_nonnegative=False)
    np.testing.assert_allclose(widths(joined), np.sqrt(steps), rtol=FLOAT32_TOLERANCE)


def test_intervals_of_noise_around_a_known_level_stay() -> None:
    joined = join_blocks([block_of(np.full(HORIZON, 3.0))] * 2, MEDIAN, is_nonnegative=False)
    np.testing.assert_allclose(widths(joined), 3, rtol=FLOAT32_TOLERANCE)


def test_intervals_never_become_narrower() -> None:
    blocks = [block_of(np.full(HORIZON, 5.0)), block_of(np.linspace(2, 1, HORIZON))]
    assert widths(join_blocks(blocks, MEDIAN, is_nonnegative=False)).min() == 5


def test_one_step_of_horizon_counts_as_a_random_walk() -> None:
    joined = join_blocks([block_of(np.ones(1))] * 4, MEDIAN, is_nonnegative=False)
    np.testing.assert_allclose(widths(joined), [1, 2**0.5, 3**0.5, 2], rtol=FLOAT32_TOLERANCE)


def test_quantiles_beyond_stay_ascending_and_not_negative() -> None:
    random = np.random.default_rng(0)
    blocks = [np.sort(random.exponential(5, (20, HORIZON, 5)), -1).astype("f4") for _ in range(3)]
    joined = join_blocks(blocks, 2, is_nonnegative=True)
    assert joined.shape == (20, 3 * HORIZON, 5)
    assert (np.diff(joined, axis=-1) >= 0).all()
    assert joined.min() >= 0


def made_up(kind: str, num_steps: int) -> NDArray[np.float32]:
    random, steps = np.random.default_rng(1), np.arange(num_steps)
    noise = random.normal(0, 10, (NUM_SERIES, num_steps))
    season = 100 * np.sin(2 * np.pi * steps / 12)
    series = {"walk": 1000 + noise.cumsum(1), "season": 1000 + season + noise}
    return series[kind].astype(np.float32)


@pytest.mark.parametrize("kind", ["walk", "season"])
def test_starter_covers_as_much_beyond_its_horizon_as_within(kind: str) -> None:
    engine = OrtEngine.from_bytes(STARTER.read_bytes(), "cpu")
    levels, horizon = engine.card.quantile_levels, engine.card.horizon
    values, median = made_up(kind, LENGTH + 2 * horizon), median_index(levels)
    past, blocks = values[:, :LENGTH], []
    for _ in range(2):
        lengths = np.full(NUM_SERIES, past.shape[1], np.int32)
        inputs = {"past_target": past, "sequence_lens": lengths}
        blocks.append(engine.run(inputs, ["quantiles"])["quantiles"])
        past = np.concatenate([past, blocks[-1][..., median]], 1)

    joined = join_blocks(blocks, median, is_nonnegative=True)

    bounds = [levels.index(0.1), levels.index(0.9)]
    as_run, widened = (
        is_covered(values[:, LENGTH:], quantiles[..., bounds]).reshape(-1, 2, horizon).mean((0, 2))
        for quantiles in (np.concatenate(blocks, 1), joined)
    )
    assert widened[1] >= widened[0] - COVERAGE_LOSS
    assert widened[1] > as_run[1]


def is_covered(actual: NDArray[np.float32], bounds: NDArray[np.float32]) -> NDArray[np.bool_]:
    covered: NDArray[np.bool_] = (actual >= bounds[..., 0]) & (actual <= bounds[..., 1])
    return covered
