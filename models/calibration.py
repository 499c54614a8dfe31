"""How wide intervals must be, measured on stretches that a trial training never saw.

Few series that move together are learned by heart, and what was learned by heart looks surer than
it is. So each forecast of held-back values is compared with its own interval, as in conformalised
quantile regression (Romano, Patterson and Candès 2019, arXiv 1905.03222), with distances from the
median in units of the interval's own half in place of differences.
"""

from collections.abc import Sequence

import numpy as np

from models.backtest import Window, forecast_windows
from models.forecaster import Forecaster
from models.metrics import EVALUATION_LEVELS
from models.series import FloatArray, SeriesSet

_MEDIAN = EVALUATION_LEVELS.index(0.5)
_COVERAGE = EVALUATION_LEVELS[-1] - EVALUATION_LEVELS[0]
_NARROWEST, _WIDEST = 1.0, 2.0
_MOST_SERIES = 500


def measure_width(
    network: Forecaster, items: SeriesSet, limits: Sequence[int], *, context_length: int
) -> float:
    """Return the factor of the distances from the median that covers what was held back.

    It is never below 1, and at most 2: what so few stretches show is no reason for more.

    Args:
        network: What was trained on the steps before ``limits``, in evaluation mode.
        items: The series, whole.
        limits: First step of each that was held back; its length where none was.
        context_length: Steps before each forecast that ``network`` reads.
    """
    windows = _held_back_windows(items, limits, network.config.horizon)
    if not windows:
        return 1.0
    horizon = network.config.horizon
    actual = np.stack([w.series.target[w.origin : w.origin + horizon] for w in windows])
    forecasts = forecast_windows(network, windows, context_length=context_length)
    distances = _distances(actual, forecasts)
    needed = float(np.quantile(distances, _COVERAGE)) if distances.size else 1.0
    return min(max(needed, _NARROWEST), _WIDEST)


def _held_back_windows(items: SeriesSet, limits: Sequence[int], horizon: int) -> list[Window]:
    rows = [row for row, length in enumerate(items.lengths) if limits[row] < length]
    chosen = rows[:: -(-len(rows) // _MOST_SERIES)] if rows else []
    return [
        Window(items.series[row], origin)
        for row in chosen
        for origin in range(limits[row], items.lengths[row] - horizon + 1, horizon)
    ]


def _distances(actual: FloatArray, quantiles: FloatArray) -> FloatArray:
    """Distances of known values from the median, in units of that side of the 80 % interval."""
    median = quantiles[..., _MEDIAN]
    side = np.where(actual < median, median - quantiles[..., 0], quantiles[..., -1] - median)
    usable = ~np.isnan(actual) & (side > 0)
    distances: FloatArray = np.abs(actual - median)[usable] / side[usable]
    return distances
