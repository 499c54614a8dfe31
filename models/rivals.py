"""Classical forecasters to hold a model against, one fit per forecast.

They are those of ``statsforecast``, which the ``rivals`` extra brings. Their median is their mean
forecast; values that are missing are interpolated for them.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from statsforecast.models import AutoETS, DynamicOptimizedTheta

from models.series import FloatArray

_LONGEST_ETS_SEASON = 24
"""AutoETS takes no longer one."""

_LONGEST_HISTORY = 2016
"""Most recent values that are read, twelve weeks of hours: on a year Theta takes minutes."""

_INTERVALS = (80, 60, 40, 20)
_QUANTILES = [
    *(f"lo-{level}" for level in _INTERVALS),
    "mean",
    *(f"hi-{level}" for level in reversed(_INTERVALS)),
]


def _auto_ets(season: int) -> Any:
    if season > _LONGEST_ETS_SEASON:
        season = 1 if season % _LONGEST_ETS_SEASON else _LONGEST_ETS_SEASON
    return AutoETS(season_length=season)


def _dynamic_theta(season: int) -> Any:
    return DynamicOptimizedTheta(season_length=season)


RIVALS: dict[str, Callable[[int], Any]] = {"AutoETS": _auto_ets, "dynamic Theta": _dynamic_theta}
"""By name, what makes a rival for a length of season."""


def forecast_rival(name: str, history: FloatArray, *, season: int, horizon: int) -> FloatArray:
    """Forecast ``(horizon, levels)`` at ``metrics.EVALUATION_LEVELS``.

    Args:
        name: One of ``RIVALS``.
        history: ``(time,)``, NaN where missing; at least two values are observed.
        season: Steps in one season, 1 where there is none.
        horizon: Steps to forecast.
    """
    recent = _interpolate(history)[-_LONGEST_HISTORY:]
    model = RIVALS[name](season)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        forecast = model.forecast(y=recent, h=horizon, level=list(_INTERVALS))
    return np.stack([forecast[quantile] for quantile in _QUANTILES], axis=-1)


def _interpolate(history: FloatArray) -> FloatArray:
    known = np.flatnonzero(~np.isnan(history))
    steps = np.arange(known[0], len(history))
    return np.interp(steps, known, history[known])
