"""Trains and scores gatecast as ``gatecast train`` does, with its defaults or with variants."""

import io
import resource
import tempfile
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from benchmarks.accuracy.data_sets import DataSet
from models import metrics
from models.backtest import forecast_windows
from models.defaults import choose_config, choose_options, choose_season
from models.run import Plan, train_forecaster
from models.scores import Scores, score
from models.series import FloatArray
from models.training import TrainingOptions

_OPTIONS = {field.name for field in fields(TrainingOptions)}


@dataclass(frozen=True, slots=True)
class Result:
    """Scores of one method on one set, and what they cost.

    Attributes:
        scores: The figures.
        seconds: Wall time of training, where there is any, and of all forecasts.
        cpu_seconds: Time of the processor, which does not depend on what else runs.
        peak_mebibytes: Largest resident memory of the process so far.
    """

    scores: Scores
    seconds: float
    cpu_seconds: float = 0.0
    peak_mebibytes: int = 0
    num_steps: tuple[int, ...] = ()
    transform: str = ""


def score_forecasts(data: DataSet, quantiles: FloatArray) -> Scores:
    """Score ``quantiles`` ``(windows, horizon, levels)`` of all windows of ``data``."""
    windows = data.windows
    actual = np.stack([w.series.target[w.origin : w.origin + data.horizon] for w in windows])
    season = data.items.season
    scales = [metrics.seasonal_scale(w.series.target[: w.origin], season) for w in windows]
    return score(actual, quantiles, np.array(scales))


def train_and_score(data: DataSet, variant: dict[str, Any]) -> tuple[Result, FloatArray]:
    """Train on the training part of ``data``; score on the rest, and return the forecasts too.

    Args:
        data: What to train on and to score.
        variant: Fields of ``TrainingOptions`` and ``NetworkConfig`` that differ from the defaults.
    """
    started, cpu_started = time.monotonic(), time.process_time()
    torch.set_num_threads(1)
    items = data.training_part
    season = variant.get("season", choose_season(items))
    wanted = {k: v for k, v in variant.items() if k in _OPTIONS}
    options = choose_options(items, season=season, wanted=wanted)
    config = choose_config(
        items,
        horizon=data.horizon,
        context_length=options.context_length,
        wanted={k: v for k, v in variant.items() if k not in _OPTIONS} | {"season": season},
    )
    console = Console(file=io.StringIO())
    with tempfile.TemporaryDirectory() as directory:
        checkpoint = train_forecaster(Plan(items, config, options), Path(directory), console)
    forecasts = forecast_windows(
        checkpoint.network, data.windows, context_length=checkpoint.context_length
    )
    seconds = round(time.monotonic() - started, 1)
    num_steps = tuple(checkpoint.training.config["num_steps"])
    scores = score_forecasts(data, forecasts)
    cpu_seconds = round(time.process_time() - cpu_started, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    result = Result(scores, seconds, cpu_seconds, peak, num_steps, config.transform)
    return result, forecasts
