"""Sizes that suit a set of series, where the user does not say otherwise.

The window of two seasons and the number of steps were chosen on held-out parts of training data;
see ``docs/training.md``.
"""

from typing import Any

from models.config import NetworkConfig
from models.series import SeriesSet
from models.training import TrainingOptions

_LEAST_WINDOW, _LARGEST_WINDOW = 6, 64
_LEAST_CONTEXT, _LARGEST_CONTEXT = 512, 4096
_CONTEXT_SEASONS = 6
_MOST_CYCLES = 8
_LEAST_BATCH = 4


def choose_options(items: SeriesSet, *, wanted: dict[str, Any]) -> TrainingOptions:
    """Return how to train on ``items``: what is ``wanted``, and what suits them for the rest.

    Args:
        items: The series.
        wanted: Fields of ``TrainingOptions`` by name.
    """
    context = min(max(_LEAST_CONTEXT, _CONTEXT_SEASONS * items.season), _LARGEST_CONTEXT)
    suitable = {
        "context_length": context,
        "batch_size": min(max(_LEAST_BATCH, len(items.series)), TrainingOptions().batch_size),
    }
    return TrainingOptions(**(suitable | wanted))


def choose_config(
    items: SeriesSet, *, horizon: int, context_length: int, wanted: dict[str, Any]
) -> NetworkConfig:
    """Return the network for ``items``: what is ``wanted``, and what suits them for the rest.

    Args:
        items: The series.
        horizon: Steps ahead.
        context_length: Most recent steps to read.
        wanted: Fields of ``NetworkConfig`` by name.
    """
    season = items.season
    suitable = {
        "window": min(max(_LEAST_WINDOW, 2 * season + 2), _LARGEST_WINDOW),
        "num_cycles": min(max(1, context_length // season - 1), _MOST_CYCLES),
        "transform": "identity" if items.has_negative_values else "log",
    }
    return NetworkConfig(
        horizon=horizon,
        season=season,
        past_covariates=items.past_covariates,
        future_covariates=items.future_covariates,
        static_covariates=items.static_covariates,
        **(suitable | wanted),
    )
