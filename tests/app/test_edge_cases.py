"""Series at the edge of what is sane, through exported models on both axes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.artifact.golden_case import relative_error
from app.runner.engine import OrtEngine
from tests.tiny_artifact import tiny_artifact

STARTER = Path(__file__).parents[2] / "model_repository" / "monthly" / "1" / "model.onnx"
SCALE_TOLERANCE = 1e-4
MEDIAN = 0.5

RANDOM = np.random.default_rng(3)
STEPS = np.arange(96)
WAVE = 100 + 0.5 * STEPS + 20 * np.sin(2 * np.pi * STEPS / 12) + RANDOM.normal(0, 2, 96)
COUNTS = np.where(RANDOM.random(96) < 0.2, RANDOM.poisson(4, 96), 0).astype(float)
GAP = np.where((STEPS > 30) & (STEPS < 75), np.nan, WAVE)
SHIFT = WAVE + np.where(STEPS < 80, 0, 1000)
NEARLY_EMPTY = np.where(STEPS % 40 == 5, WAVE, np.nan)

CASES = {
    "one value": np.array([5.0]),
    "two values": np.array([5.0, 6.0]),
    "one zero": np.array([0.0]),
    "constant": np.full(60, 7.0),
    "zeros": np.zeros(60),
    "counts": COUNTS,
    "a single one": np.eye(1, 60, 59)[0],
    "long gap": GAP,
    "nearly empty": NEARLY_EMPTY,
    "ends in a gap": np.where(STEPS > 60, np.nan, WAVE),
    "level shift": SHIFT,
    "wave": WAVE,
}
SIZES = [1.0, 1e-9, 1e9]


@pytest.fixture(scope="module")
def engine() -> OrtEngine:
    return OrtEngine.from_bytes(STARTER.read_bytes(), "cpu")


def forecast(engine: OrtEngine, target: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return ``(horizon, num_quantiles)``."""
    past = target.astype(np.float32)[np.newaxis]
    lengths = np.array([len(target)], np.int32)
    outputs = engine.run({"past_target": past, "sequence_lens": lengths}, ["quantiles"])
    quantiles: NDArray[np.float32] = outputs["quantiles"][0]
    return quantiles


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CASES)
def test_quantiles_are_sane(engine: OrtEngine, name: str, size: float) -> None:
    target = CASES[name] * size
    quantiles = forecast(engine, target)
    highest = float(np.nanmax(target))
    assert np.isfinite(quantiles).all()
    assert (np.diff(quantiles, axis=-1) >= 0).all()
    assert quantiles.min() >= 0
    assert quantiles.max() <= 10 * highest + size


AXES: dict[str, dict[str, Any]] = {
    "logarithms": {},
    "values": {"cell": "gru", "num_layers": 3, "transform": "identity", "season": 12},
}
"""Artifacts that other tests export as well."""


@pytest.fixture(scope="module", params=AXES.values(), ids=list(AXES))
def tiny_engine(request: pytest.FixtureRequest) -> OrtEngine:
    return OrtEngine.from_bytes(tiny_artifact(**request.param), "cpu")


@pytest.mark.parametrize("name", CASES)
def test_scale_of_a_series_is_that_of_its_forecast(tiny_engine: OrtEngine, name: str) -> None:
    own, larger = (forecast(tiny_engine, CASES[name] * factor) for factor in (1.0, 1000.0))
    if not np.nanmax(CASES[name]):
        assert np.abs(own).max() < SCALE_TOLERANCE
        return
    assert relative_error(larger, own * 1000) < SCALE_TOLERANCE


def median(engine: OrtEngine, target: NDArray[np.float64]) -> NDArray[np.float32]:
    return forecast(engine, target)[:, engine.card.quantile_levels.index(MEDIAN)]


TEMPERATURES = 10 * np.sin(2 * np.pi * STEPS / 12) + RANDOM.normal(0, 2, 96)


@pytest.mark.parametrize("size", SIZES)
def test_values_around_zero_are_forecast_around_zero(size: float) -> None:
    engine = OrtEngine.from_bytes(tiny_artifact(**AXES["values"]), "cpu")
    quantiles = forecast(engine, TEMPERATURES * size)
    assert np.isfinite(quantiles).all()
    assert quantiles.min() < 0 < quantiles.max()
    assert np.abs(quantiles).max() < 200 * size


@pytest.mark.parametrize("name", ["one value", "two values", "constant"])
def test_little_that_is_known_is_carried_on(engine: OrtEngine, name: str) -> None:
    np.testing.assert_allclose(median(engine, CASES[name]), CASES[name][-1], rtol=0.25)


def test_forecast_stands_on_the_new_level_after_a_shift(engine: OrtEngine) -> None:
    assert median(engine, SHIFT).min() > 1000


def test_season_is_followed_across_a_long_gap(engine: OrtEngine) -> None:
    whole, with_gap = median(engine, WAVE), median(engine, GAP)
    assert np.corrcoef(whole, with_gap)[0, 1] > 0.5
