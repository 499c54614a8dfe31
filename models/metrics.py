"""Measures of forecast accuracy, each one number per series unless it says otherwise.

With actual values y, a point forecast f, quantiles q at level a, over the horizon h:

- sMAPE = 200 mean(|y - f| / (|y| + |f|)), 0 to 200, as in Makridakis and Hibon (2000), "The
  M3-Competition: results, conclusions and implications", Int. J. Forecasting 16.
- MASE = mean(|y - f|) / s, where s is the mean of |x[t] - x[t - season]| over the history, as in
  Hyndman and Koehler (2006), "Another look at measures of forecast accuracy", Int. J.
  Forecasting 22, eq. 6.
- quantile loss = 2 max(a (y - q), (a - 1) (y - q)): at level 0.5 it is |y - q|. Koenker and
  Bassett (1978), "Regression quantiles", Econometrica 46.
- scaled quantile loss = mean of the quantile loss over steps and levels / s, as in the M5
  uncertainty competition, so that each series counts alike.
- weighted quantile loss = mean over levels of sum(quantile loss) / sum(|y|), sums over all series
  and steps, as in Salinas et al. (2020), "DeepAR", Int. J. Forecasting 36.
- coverage = share of y within two quantiles.

Missing actual values (NaN) do not count. A series whose measure is undefined (no actual value, or
s = 0) gets NaN.
"""

import numpy as np
from numpy.typing import NDArray

from models.series import FloatArray

EVALUATION_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def seasonal_scale(history: FloatArray, season: int) -> float:
    """Mean absolute seasonal difference of ``history`` ``(time,)``, the denominator of MASE.

    A history without a full season, or without a pair of values one season apart, is measured by
    its steps instead. NaN if there is no pair of values at all.
    """
    for lag in (season, 1):
        differences = np.abs(history[lag:] - history[:-lag])
        known = differences[~np.isnan(differences)]
        if known.size:
            return float(known.mean())
    return float("nan")


def mase(actual: FloatArray, forecast: FloatArray, scales: FloatArray) -> FloatArray:
    """Return MASE ``(series,)`` of forecasts ``(series, horizon)``; ``scales`` ``(series,)``."""
    return _divide(mean_known(np.abs(actual - forecast)), scales)


def smape(actual: FloatArray, forecast: FloatArray) -> FloatArray:
    """Return sMAPE ``(series,)`` of forecasts ``(series, horizon)``; 0 where both values are 0."""
    size = np.abs(actual) + np.abs(forecast)
    ratio = np.abs(actual - forecast) / np.where(size == 0, 1.0, size)
    return 200 * mean_known(ratio)


def quantile_loss(
    actual: FloatArray, quantiles: FloatArray, levels: tuple[float, ...]
) -> FloatArray:
    """Quantile loss ``(series, horizon, levels)`` of ``quantiles`` of the same shape."""
    error = actual[..., np.newaxis] - quantiles
    level = np.asarray(levels)
    return 2 * np.maximum(level * error, (level - 1) * error)


def scaled_quantile_loss(
    actual: FloatArray, quantiles: FloatArray, *, levels: tuple[float, ...], scales: FloatArray
) -> FloatArray:
    """Scaled quantile loss ``(series,)`` of ``quantiles`` ``(series, horizon, levels)``."""
    loss = quantile_loss(actual, quantiles, levels).mean(-1)
    return _divide(mean_known(loss), scales)


def weighted_quantile_loss(
    actual: FloatArray, quantiles: FloatArray, levels: tuple[float, ...]
) -> float:
    """Weighted quantile loss of a whole set, one number; NaN if all actual values are 0."""
    loss = np.nansum(quantile_loss(actual, quantiles, levels), axis=(0, 1))
    size = float(np.nansum(np.abs(actual)))
    return float(loss.mean() / size) if size else float("nan")


def coverage(actual: FloatArray, lower: FloatArray, upper: FloatArray) -> FloatArray:
    """Share ``(series,)`` of values within two quantiles, all three ``(series, horizon)``."""
    within = ((actual >= lower) & (actual <= upper)).astype(np.float64)
    return mean_known(np.where(np.isnan(actual), np.nan, within))


def mean_known(values: NDArray[np.float64]) -> FloatArray:
    """Mean over the last axis of the values that are not NaN; NaN where there are none."""
    known = ~np.isnan(values)
    return _divide(np.where(known, values, 0.0).sum(-1), known.sum(-1).astype(np.float64))


def _divide(values: FloatArray, by: FloatArray) -> FloatArray:
    usable = by > 0
    return np.where(usable, values / np.where(usable, by, 1.0), np.nan)
