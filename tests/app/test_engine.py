"""The engine against a real artifact."""

import numpy as np
import pytest

from app.errors import ArtifactError, EngineError, ModelOutputError
from app.runner.engine import OrtEngine
from app.tensors import Tensors
from tests.tiny_artifact import tiny_artifact


@pytest.fixture(scope="module")
def engine() -> OrtEngine:
    return OrtEngine.from_bytes(tiny_artifact(), "cpu")


def batch(rows: int, time: int) -> Tensors:
    return {
        "past_target": np.tile(np.arange(1, time + 1, dtype=np.float32), (rows, 1)),
        "sequence_lens": np.full(rows, time, np.int32),
    }


def test_runs_from_the_initial_state(engine: OrtEngine) -> None:
    quantiles = engine.run(batch(3, 20), ["quantiles"])["quantiles"]
    card = engine.card
    assert quantiles.shape == (3, card.horizon, len(card.quantile_levels))
    assert (np.diff(quantiles, axis=-1) >= 0).all()


def test_golden_case_passes(engine: OrtEngine) -> None:
    engine.check_golden_case()


def test_names_the_provider_that_it_really_runs_on(engine: OrtEngine) -> None:
    assert engine.providers == ["CPUExecutionProvider"]


@pytest.mark.parametrize(("rows", "time"), [(0, 5), (5, 0), (0, 0)])
def test_empty_batch_is_refused_before_it_aborts_the_process(
    engine: OrtEngine, rows: int, time: int
) -> None:
    with pytest.raises(EngineError, match="empty batch"):
        engine.run(batch(rows, time), ["quantiles"])


def test_wrong_type_is_an_engine_error(engine: OrtEngine) -> None:
    inputs = batch(1, 5) | {"sequence_lens": np.array([5], np.int64)}
    with pytest.raises(EngineError, match="model run failed"):
        engine.run(inputs, ["quantiles"])


def test_numbers_that_are_not_finite_are_not_passed_on(engine: OrtEngine) -> None:
    broken = batch(1, 5) | {"past_target": np.full((1, 5), np.inf, np.float32)}
    with pytest.raises((ModelOutputError, EngineError)):
        engine.run(broken, ["quantiles"])


def test_cuda_without_cuda_is_refused() -> None:
    with pytest.raises(ArtifactError, match="CUDA"):
        OrtEngine.from_bytes(tiny_artifact(), "cuda")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_truncated_file_is_refused(share: float) -> None:
    model = tiny_artifact()
    with pytest.raises(ArtifactError) as caught:
        OrtEngine.from_bytes(model[: int(share * len(model))], "cpu")
    assert "\n" not in str(caught.value)


def test_every_flipped_bit_is_noticed() -> None:
    model = tiny_artifact()
    for position in np.random.default_rng(0).integers(0, len(model), 200):
        damaged = bytearray(model)
        damaged[position] ^= 1 << int(position) % 8
        with pytest.raises(ArtifactError):
            OrtEngine.from_bytes(bytes(damaged), "cpu")
