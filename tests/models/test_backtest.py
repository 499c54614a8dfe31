from dataclasses import replace

import numpy as np
import pytest
import torch

from app.errors import InvalidInputError
from models.backtest import (
    Window,
    forecast_by_methods,
    forecast_windows,
    interpolate_levels,
    rolling_windows,
    summarise,
)
from models.config import NetworkConfig
from models.forecaster import Forecaster
from models.series import FloatArray, Series, SeriesSet


@pytest.fixture
def network(tiny_config: NetworkConfig) -> Forecaster:
    torch.manual_seed(0)
    return Forecaster(tiny_config).eval()


def test_windows_are_the_last_ones_oldest_first(waves: SeriesSet) -> None:
    windows = rolling_windows(waves, horizon=4, num_windows=3)
    assert [window.origin for window in windows[:3]] == [28, 32, 36]


def test_short_series_give_the_windows_they_have() -> None:
    items = SeriesSet((Series("a", np.arange(9.0)), Series("b", np.arange(4.0))), None, 1)
    windows = rolling_windows(items, horizon=3, num_windows=5)
    assert [(window.series.item_id, window.origin) for window in windows] == [("a", 3), ("a", 6)]


def test_set_of_short_series_is_refused() -> None:
    items = SeriesSet((Series("a", np.arange(4.0)),), None, 1)
    with pytest.raises(InvalidInputError, match="longer than the horizon of 4"):
        rolling_windows(items, horizon=4, num_windows=1)


def test_one_pass_forecasts_what_single_windows_would(
    network: Forecaster, waves: SeriesSet
) -> None:
    windows = rolling_windows(waves, horizon=4, num_windows=3)
    together = forecast_windows(network, windows, context_length=64)
    for window, forecast in zip(windows, together, strict=True):
        known = window.series.until(window.origin)
        alone = forecast_windows(network, [Window(known, window.origin)], context_length=64)[0]
        np.testing.assert_allclose(forecast, alone, rtol=1e-5)


def test_network_reads_what_a_service_would_give_it(network: Forecaster, waves: SeriesSet) -> None:
    context_length = 30
    windows = rolling_windows(waves, horizon=4, num_windows=4)  # some begin before step 30
    forecasts = forecast_windows(network, windows, context_length=context_length)
    for window, forecast in zip(windows, forecasts, strict=True):
        first = max(0, window.origin - context_length)
        recent = replace(window.series, target=window.series.target[first : window.origin])
        served = forecast_windows(
            network, [Window(recent, window.origin - first)], context_length=10**9
        )
        np.testing.assert_allclose(forecast, served[0], rtol=1e-5)


def test_windows_of_many_series_keep_their_order(network: Forecaster, waves: SeriesSet) -> None:
    many = [
        Series(f"{copy}_{item.item_id}", item.target * (copy + 1))
        for copy in range(20)
        for item in waves.series
    ]
    windows = rolling_windows(replace(waves, series=tuple(many)), horizon=4, num_windows=1)
    forecast = forecast_windows(network, windows, context_length=64)
    # The forecast follows the unit of the target.
    first = len(waves.series)
    np.testing.assert_allclose(forecast[first : 2 * first], 2 * forecast[:first], rtol=1e-4)


def test_accuracy_holds_the_seasonal_naive_too(network: Forecaster, waves: SeriesSet) -> None:
    windows = rolling_windows(waves, horizon=4, num_windows=2)
    result = summarise(
        forecast_by_methods(network, windows, season=waves.season, horizon=4, context_length=64)
    )
    accuracy = result.to_accuracy("waves")
    assert (accuracy.data_set, accuracy.num_series, result.num_windows) == ("waves", 6, 12)
    assert accuracy.mase == result.model.mase
    assert accuracy.seasonal_naive_mase == result.seasonal_naive.mase


def test_rivals_are_scored_on_the_same_windows(network: Forecaster, waves: SeriesSet) -> None:
    windows = rolling_windows(waves, horizon=4, num_windows=2)

    def last_value(history: FloatArray) -> FloatArray:
        return np.full((4, 9), history[-1])

    forecasts = forecast_by_methods(
        network,
        windows,
        season=waves.season,
        horizon=4,
        context_length=64,
        rivals={"last value": last_value},
    )
    result = summarise(forecasts)
    error = np.abs(forecasts.actual - np.array([[w.series.target[w.origin - 1]] for w in windows]))
    assert result.rivals["last value"].mase == pytest.approx(
        (error.mean(1) / forecasts.scales).mean()
    )
    assert result.rivals["last value"].coverage_80 < 0.5


def test_levels_between_trained_ones_are_interpolated() -> None:
    trained = (0.05, 0.15, 0.5, 0.95)
    read = interpolate_levels(np.array([0.0, 10.0, 45.0, 90.0]), trained)
    assert read.tolist() == pytest.approx([5, 15, 25, 35, 45, 55, 65, 75, 85])
