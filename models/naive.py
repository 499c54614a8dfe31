"""The seasonal naive forecast, the bar that every model must clear.

The forecast is the newest observed value of the same phase. Its quantiles take the forecast errors
as normal with the spread of the errors it made within the history, growing with the square root of
the number of seasons ahead (Hyndman and Athanasopoulos, Forecasting: Principles and Practice, 3rd
ed., section 5.5).
"""

from statistics import NormalDist

import numpy as np

from models.series import FloatArray


def seasonal_naive(
    history: FloatArray, *, season: int, horizon: int, levels: tuple[float, ...]
) -> FloatArray:
    """Forecast quantiles ``(horizon, levels)`` from ``history`` ``(time,)``.

    A history shorter than a season is forecast by its last value (season 1).

    Args:
        history: Values, oldest first, NaN where missing; at least one is observed.
        season: Steps in one season, 1 where there is none.
        horizon: Steps to forecast.
        levels: Quantile levels, ascending.
    """
    season = season if len(history) > season else 1
    point, age = _newest_of_each_phase(history, season)
    ahead = np.arange(horizon)
    steps = point[ahead % season]
    seasons_ahead = ahead // season + 1 + age[ahead % season]
    spread = _error_spread(history, season) * np.sqrt(seasons_ahead)
    normal = np.array([NormalDist().inv_cdf(level) for level in levels])
    quantiles: FloatArray = steps[:, np.newaxis] + spread[:, np.newaxis] * normal
    return quantiles


def _newest_of_each_phase(history: FloatArray, season: int) -> tuple[FloatArray, FloatArray]:
    """Newest observed value of each phase ``(season,)``, and how many seasons before the last."""
    padding = np.full(-len(history) % season, np.nan)
    cycles = np.concatenate([padding, history]).reshape(-1, season)[::-1]
    known = ~np.isnan(cycles)
    age = known.argmax(0)
    newest = cycles[age, np.arange(season)]
    last = history[~np.isnan(history)][-1]
    return np.where(known.any(0), newest, last), age.astype(np.float64)


def _error_spread(history: FloatArray, season: int) -> float:
    errors = history[season:] - history[:-season]
    known = errors[~np.isnan(errors)]
    return float(np.sqrt(np.mean(known**2))) if known.size else 0.0
