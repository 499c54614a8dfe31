import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import metrics

ROUNDING = 1e-12


def test_seasonal_scale_is_the_mean_absolute_seasonal_difference() -> None:
    assert metrics.seasonal_scale(np.array([1.0, 2.0, 4.0, 8.0]), 2) == (3 + 6) / 2


def test_seasonal_scale_of_a_short_history_uses_its_steps() -> None:
    assert metrics.seasonal_scale(np.array([1.0, 2.0, 4.0]), 12) == (1 + 2) / 2


def test_seasonal_scale_skips_missing_values() -> None:
    history = np.array([1.0, 2.0, np.nan, 5.0, 6.0])
    assert metrics.seasonal_scale(history, 2) == 3.0


def test_seasonal_scale_of_a_single_value_is_undefined() -> None:
    assert np.isnan(metrics.seasonal_scale(np.array([1.0]), 1))


def test_mase_divides_the_mean_absolute_error_by_the_scale() -> None:
    actual, forecast = np.array([[10.0, 20.0], [1.0, 1.0]]), np.array([[12.0, 16.0], [1.0, 2.0]])
    assert metrics.mase(actual, forecast, np.array([2.0, 0.5])).tolist() == [1.5, 1.0]


def test_mase_of_a_constant_history_is_undefined() -> None:
    assert np.isnan(metrics.mase(np.array([[1.0]]), np.array([[2.0]]), np.array([0.0]))).all()


def test_smape_is_on_a_scale_to_200() -> None:
    actual, forecast = np.array([[100.0, 1.0, 0.0]]), np.array([[50.0, -1.0, 0.0]])
    expected = (200 / 3 + 200 + 0) / 3
    assert metrics.smape(actual, forecast) == pytest.approx([expected], rel=ROUNDING)


def test_quantile_loss_weighs_both_sides_by_the_level() -> None:
    quantiles = np.array([[[8.0, 10.0, 13.0]]])
    loss = metrics.quantile_loss(np.array([[10.0]]), quantiles, (0.1, 0.5, 0.9))
    assert loss.ravel().tolist() == pytest.approx([0.4, 0.0, 0.6], rel=1e-9)


def test_quantile_loss_of_the_median_is_the_absolute_error() -> None:
    assert metrics.quantile_loss(np.array([[3.0]]), np.array([[[7.0]]]), (0.5,)) == 4.0


def test_weighted_quantile_loss_sums_over_the_whole_set() -> None:
    actual = np.array([[10.0], [90.0]])
    quantiles = np.array([[[9.0, 10.0]], [[90.0, 100.0]]])
    expected = ((2 * 0.1 * 1 + 0) / 100 + (0 + 10) / 100) / 2
    loss = metrics.weighted_quantile_loss(actual, quantiles, (0.1, 0.5))
    assert loss == pytest.approx(expected, rel=ROUNDING)


def test_weighted_quantile_loss_of_zeros_is_undefined() -> None:
    assert np.isnan(metrics.weighted_quantile_loss(np.zeros((1, 1)), np.ones((1, 1, 1)), (0.5,)))


def test_scaled_quantile_loss_averages_levels_and_steps() -> None:
    actual, quantiles = np.array([[10.0, 10.0]]), np.array([[[9.0, 11.0], [10.0, 10.0]]])
    loss = metrics.scaled_quantile_loss(
        actual, quantiles, levels=(0.1, 0.5), scales=np.array([2.0])
    )
    assert loss == pytest.approx([((0.2 + 1.0) / 2 + 0) / 2 / 2], rel=ROUNDING)


def test_coverage_counts_the_bounds_as_within() -> None:
    actual = np.array([[1.0, 2.0, 3.0, 4.0]])
    lower, upper = np.full((1, 4), 2.0), np.full((1, 4), 3.0)
    assert metrics.coverage(actual, lower, upper) == 0.5


def test_missing_actual_values_do_not_count() -> None:
    actual, forecast = np.array([[1.0, np.nan, 3.0]]), np.array([[2.0, 9.0, 3.0]])
    assert metrics.mase(actual, forecast, np.ones(1)) == 0.5
    assert metrics.coverage(actual, forecast - 0.5, forecast + 0.5) == 0.5


@given(st.floats(0.01, 100), st.integers(1, 12))
def test_mase_does_not_depend_on_the_unit(unit: float, season: int) -> None:
    random = np.random.default_rng(season)
    history, actual, forecast = random.normal(size=30), random.normal(size=5), random.normal(size=5)
    one = metrics.mase(
        actual[None], forecast[None], np.array([metrics.seasonal_scale(history, season)])
    )
    scale = metrics.seasonal_scale(history * unit, season)
    other = metrics.mase(actual[None] * unit, forecast[None] * unit, np.array([scale]))
    assert other == pytest.approx(one, rel=1e-9)
