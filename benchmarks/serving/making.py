"""Trains and exports the forecaster that is measured: python -m benchmarks.serving.making FOLDER.

A few steps on made-up series: it costs the same to run as a good one.
"""

import logging
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from benchmarks.serving.forecaster import CONTEXT_LENGTH, HIDDEN_SIZE, NAME, NUM_LAYERS
from benchmarks.serving.models import HORIZON
from export.publish import publish, to_artifact
from export.verify import verify
from models.config import NetworkConfig
from models.run import Plan, prepare_directory, train_forecaster
from models.series import Series, SeriesSet
from models.training import TrainingOptions

_SEASON = 12
_NUM_SERIES, _NUM_STEPS = 32, 240
_CONFIG = NetworkConfig(
    horizon=HORIZON,
    season=_SEASON,
    window=24,
    hidden_size=HIDDEN_SIZE,
    num_layers=NUM_LAYERS,
    quantile_levels=(0.1, 0.5, 0.9),
)
_OPTIONS = TrainingOptions(
    max_steps=20,
    steps_per_check=10,
    fixed_steps=True,
    batch_size=16,
    context_length=CONTEXT_LENGTH,
)


def make_forecaster(repository: Path) -> None:
    """Train a little, export, verify, and publish into ``repository``."""
    plan = Plan(_made_up_series(), _CONFIG, _OPTIONS, "A forecaster that is only measured.")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prepare_directory(plan, Path(folder))
        checkpoint = train_forecaster(plan, Path(folder), Console(quiet=True))
    model = to_artifact(checkpoint)
    publish(model, verify(model, checkpoint), model_name=NAME, model_repository=repository)


def _made_up_series() -> SeriesSet:
    random = np.random.default_rng(3)
    season = 2 + np.sin(2 * np.pi * np.arange(_NUM_STEPS) / _SEASON)
    series = tuple(
        Series(f"made-up-{number}", 50 * random.gamma(50, 0.02, _NUM_STEPS) * season)
        for number in range(_NUM_SERIES)
    )
    return SeriesSet(series=series, freq="M", season=_SEASON)


if __name__ == "__main__":
    torch.set_num_threads(1)
    make_forecaster(Path(sys.argv[1]))
