"""What suits a set of series, where the user does not say otherwise: one recipe a length of season.

Chosen on held-out parts of training data; ``docs/accuracy.md`` has the figures.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from models.config import NetworkConfig
from models.recurrent import Cell
from models.series import SeriesSet
from models.training import TrainingOptions

_LARGEST_WINDOW = 64
_LEAST_CONTEXT, _LARGEST_CONTEXT = 512, 4096
_CONTEXT_SEASONS = 6
_MOST_CYCLES = 8
_LEAST_BATCH = 4
_DAYS_IN_A_WEEK = 7
_SEASONS_OF_DAYS = range(12, 49)
_LEAST_WEEKS = 5
_LEAST_SEASONS = 2
_IDENTITY_SHARE = 2.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to learn from series of one length of season.

    Attributes:
        longest_season: Of the seasons it is for.
        window: Recent values that each step sees, in seasons and steps beyond them.
        season_gate: As in ``NetworkConfig``.
        input_noise: As in ``NetworkConfig``.
        max_steps: Optimiser steps of a network on the log axis.
        num_members: Networks in the forecaster.
        batch_share: Of the series, in a step; where few move together, all at once are one example.
        half_life: As in ``NetworkConfig``.
        level_smoothing: As in ``NetworkConfig``.
        anchor_share: As in ``NetworkConfig``.
        anchor_smoothing: As in ``NetworkConfig``.
        width: As in ``NetworkConfig``.
        dropout: As in ``NetworkConfig``.
        cell: Kind of recurrent layer.
    """

    longest_season: float
    window: tuple[int, int]
    season_gate: float
    input_noise: float
    max_steps: int
    num_members: int
    batch_share: float = 1.0
    half_life: float = 2.0
    level_smoothing: float = 1.0
    anchor_share: float = 0.0
    anchor_smoothing: float = 0.9
    width: float = 1.0
    dropout: float = 0.1
    cell: Cell = "lstm"


_RECIPES = (
    # yearly, and everything without a season
    Recipe(1, (0, 6), 0.3, 0.0, 120, 6, anchor_share=0.6, width=0.95),
    # quarterly
    Recipe(6, (2, 2), 0.3, 0.0, 120, 6, anchor_share=0.6, width=0.95),
    Recipe(7, (4, 2), 0.05, 0.0, 100, 2, batch_share=0.25),  # daily
    Recipe(12, (3, 0), 0.05, 0.05, 200, 4, cell="gru"),  # monthly
    Recipe(48, (2, 2), 0.05, 0.0, 100, 2, level_smoothing=0.03),  # hours of a day
    # weekly
    Recipe(53, (2, 2), 0.05, 0.05, 200, 4, anchor_share=0.6, anchor_smoothing=0.5, dropout=0.2),
    # hours of a week
    Recipe(float("inf"), (2, 2), 0.05, 0.0, 100, 2, half_life=0.7, level_smoothing=0.03),
)


def choose_recipe(season: int) -> Recipe:
    """Return the recipe for series of that season."""
    return next(recipe for recipe in _RECIPES if season <= recipe.longest_season)


def choose_season(items: SeriesSet) -> int:
    """Return the season to follow, that of ``items`` where most series show two of it, else none.

    For hours it is a week in place of a day where most show enough weeks.
    """
    length = float(np.median([len(item.target) for item in items.series]))
    week = _DAYS_IN_A_WEEK * items.season
    is_within_days = items.freq is not None and items.freq.lstrip("0123456789") in {"h", "min"}
    if is_within_days and items.season in _SEASONS_OF_DAYS and length >= _LEAST_WEEKS * week:
        return week
    return items.season if length >= _LEAST_SEASONS * items.season else 1


def choose_options(
    items: SeriesSet, *, season: int | None = None, wanted: dict[str, Any]
) -> TrainingOptions:
    """Return how to train on ``items``: what is ``wanted``, and what suits them for the rest.

    Args:
        items: The series.
        season: The season to follow, if it is not theirs.
        wanted: Fields of ``TrainingOptions`` by name.
    """
    season = season or items.season
    recipe = choose_recipe(season)
    rows = max(_LEAST_BATCH, int(recipe.batch_share * len(items.series)))
    context = min(max(_LEAST_CONTEXT, _CONTEXT_SEASONS * season), _LARGEST_CONTEXT)
    suitable = {
        "context_length": context,
        "batch_size": min(rows, TrainingOptions().batch_size),
        "max_steps": recipe.max_steps,
        "identity_share": _IDENTITY_SHARE,
        "fixed_steps": True,
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
    season = wanted.get("season", items.season)
    recipe = choose_recipe(season)
    seasons, steps = recipe.window
    suitable = {
        "season": season,
        "window": min(seasons * season + steps, _LARGEST_WINDOW),
        "season_gate": recipe.season_gate,
        "half_life": recipe.half_life,
        "level_smoothing": recipe.level_smoothing,
        "input_noise": recipe.input_noise,
        "num_cycles": min(max(1, context_length // season - 1), _MOST_CYCLES),
        "num_members": recipe.num_members,
        "anchor_share": recipe.anchor_share,
        "anchor_smoothing": recipe.anchor_smoothing,
        "width": recipe.width,
        "dropout": recipe.dropout,
        "cell": recipe.cell,
        "transform": "identity" if items.has_negative_values else "both",
        "is_nonnegative": not items.has_negative_values,
    }
    return NetworkConfig(
        horizon=horizon,
        past_covariates=items.past_covariates,
        future_covariates=items.future_covariates,
        static_covariates=items.static_covariates,
        static_categories=items.static_categories,
        calendar_features=items.calendar_features,
        **(suitable | wanted),
    )
