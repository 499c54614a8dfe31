"""The rivals: seasonal naive, AutoETS and dynamic optimised Theta, one fit per forecast.

The last two are those of ``statsforecast``; the median is their mean forecast.
"""

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from statsforecast.models import AutoETS, DynamicOptimizedTheta

from benchmarks.accuracy.data_sets import DataSet
from benchmarks.accuracy.training import Result, score_forecasts
from models.metrics import EVALUATION_LEVELS
from models.naive import seasonal_naive
from models.series import FloatArray

_INTERVALS = (80, 60, 40, 20)
_QUANTILES = [
    *(f"lo-{level}" for level in _INTERVALS),
    "mean",
    *(f"hi-{level}" for level in reversed(_INTERVALS)),
]


def _forecast_naive(data: DataSet, history: FloatArray) -> FloatArray:
    return seasonal_naive(
        history, season=data.items.season, horizon=data.horizon, levels=EVALUATION_LEVELS
    )


def _forecast_ets(data: DataSet, history: FloatArray) -> FloatArray:
    return _forecast(AutoETS(season_length=data.rival_season), data, history)


def _forecast_theta(data: DataSet, history: FloatArray) -> FloatArray:
    return _forecast(DynamicOptimizedTheta(season_length=data.items.season), data, history)


def _forecast(model: Any, data: DataSet, history: FloatArray) -> FloatArray:
    recent = history[-data.rival_history :]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        forecast = model.forecast(y=recent, h=data.horizon, level=list(_INTERVALS))
    return np.stack([forecast[name] for name in _QUANTILES], axis=-1)


RIVALS: dict[str, Callable[[DataSet, FloatArray], FloatArray]] = {
    "seasonal naive": _forecast_naive,
    "AutoETS": _forecast_ets,
    "dynamic Theta": _forecast_theta,
}


def score_rival(name: str, data: DataSet) -> Result:
    """Forecast all windows of ``data`` with one of ``RIVALS`` and score them."""
    started = time.monotonic()
    histories = [window.series.target[: window.origin] for window in data.windows]
    forecasts = np.stack([RIVALS[name](data, history) for history in histories])
    seconds = round(time.monotonic() - started, 1)
    return Result(score_forecasts(data, forecasts), seconds)
