from dataclasses import replace

import numpy as np
import pytest
import torch

from models.backtest import Window, forecast_windows
from models.calibration import measure_width
from models.config import NetworkConfig
from models.forecaster import Forecaster
from models.series import Series, SeriesSet

HORIZON = 2
CONFIG = NetworkConfig(horizon=HORIZON, window=4, hidden_size=8, num_layers=1)


def make_network(width: float) -> Forecaster:
    torch.manual_seed(0)
    return Forecaster(replace(CONFIG, width=width)).eval()


@pytest.fixture
def items() -> SeriesSet:
    random = np.random.default_rng(0)
    walks = 100 * np.exp(random.normal(0, 0.1, (100, 21)).cumsum(1))
    return SeriesSet(tuple(Series(str(row), walk) for row, walk in enumerate(walks)), None, 1)


def covered(width: float, items: SeriesSet, limit: int) -> float:
    windows = [
        Window(series, origin) for series in items.series for origin in range(limit, 20, HORIZON)
    ]
    actual = np.stack([w.series.target[w.origin : w.origin + HORIZON] for w in windows])
    quantiles = forecast_windows(make_network(width), windows, context_length=21)
    return float(np.mean((quantiles[..., 0] <= actual) & (actual <= quantiles[..., -1])))


def test_measured_width_covers_what_was_held_back(items: SeriesSet) -> None:
    limit, too_narrow = 15, 0.6
    factor = measure_width(make_network(too_narrow), items, [limit] * 100, context_length=21)
    assert 1 < factor < 2
    assert covered(too_narrow, items, limit) < 0.75
    assert covered(too_narrow * factor, items, limit) == pytest.approx(0.8, abs=0.005)


@pytest.mark.parametrize(("width", "factor"), [(0.01, 2.0), (10, 1.0)], ids=["narrow", "wide"])
def test_factor_has_bounds(width: float, factor: float, items: SeriesSet) -> None:
    assert measure_width(make_network(width), items, [15] * 100, context_length=21) == factor


def test_nothing_held_back_changes_nothing(items: SeriesSet) -> None:
    assert measure_width(make_network(0.01), items, items.lengths, context_length=21) == 1


def test_missing_values_do_not_count(items: SeriesSet) -> None:
    def hide(series: Series) -> Series:
        target = series.target.copy()
        target[[16, 18]] = np.nan
        return replace(series, target=target)

    hidden = replace(items, series=tuple(hide(series) for series in items.series))
    network = make_network(0.6)
    shown = measure_width(network, items, [15] * 100, context_length=21)
    assert measure_width(network, hidden, [15] * 100, context_length=21) == pytest.approx(
        shown, rel=0.2
    )
