"""The rivals: seasonal naive, AutoETS and dynamic optimised Theta, one fit per forecast."""

import time
from functools import partial

import numpy as np

from benchmarks.accuracy.data_sets import DataSet
from benchmarks.accuracy.training import Result, score_forecasts
from models.backtest import Method
from models.metrics import EVALUATION_LEVELS
from models.naive import seasonal_naive
from models.rivals import RIVALS, forecast_rival

_NAIVE = "seasonal naive"
NAMES = (_NAIVE, *RIVALS)


def _method(name: str, data: DataSet) -> Method:
    season, horizon = data.items.season, data.horizon
    if name == _NAIVE:
        return partial(seasonal_naive, season=season, horizon=horizon, levels=EVALUATION_LEVELS)
    return partial(forecast_rival, name, season=season, horizon=horizon)


def score_rival(name: str, data: DataSet) -> Result:
    """Forecast all windows of ``data`` with one of ``NAMES`` and score them."""
    method = _method(name, data)
    started, cpu_started = time.monotonic(), time.process_time()
    histories = [window.series.target[: window.origin] for window in data.windows]
    forecasts = np.stack([method(history) for history in histories])
    seconds = round(time.monotonic() - started, 1)
    cpu_seconds = round(time.process_time() - cpu_started, 1)
    return Result(score_forecasts(data, forecasts), seconds, cpu_seconds)
