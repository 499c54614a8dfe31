import io

import numpy as np
import pytest
import torch
from rich.console import Console

from models.config import NetworkConfig
from models.series import Series, SeriesSet
from models.training import TrainingOptions


@pytest.fixture(autouse=True, scope="session")
def _single_thread() -> None:
    """Tiny networks gain nothing from threads, and lose much where other processes run."""
    torch.set_num_threads(1)


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=120)


@pytest.fixture
def waves() -> SeriesSet:
    """Six quarterly series of different lengths with season, trend and noise."""
    random = np.random.default_rng(0)
    series = []
    for row in range(6):
        steps = np.arange(40 + 5 * row)
        target = 100 + steps + 20 * np.sin(2 * np.pi * (steps + row) / 4)
        noise = random.normal(0, 2, len(steps))
        series.append(Series(f"wave_{row}", target + noise, start=0))
    return SeriesSet(tuple(series), freq="Q", season=4)


@pytest.fixture
def tiny_config() -> NetworkConfig:
    return NetworkConfig(horizon=4, season=4, window=6, hidden_size=8, num_layers=1)


@pytest.fixture
def short_training() -> TrainingOptions:
    return TrainingOptions(max_steps=12, batch_size=4, steps_per_check=3, context_length=64)
