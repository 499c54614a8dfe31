"""What a reader of one forecast should know about the series that it comes from."""

import numpy as np
from numpy.typing import NDArray

from app.artifact.card import Card
from app.gateway.forecast_schemas import Note

_SEASONS = 2
_LEAST_VALUES = 3
_MISSING_SHARE = 0.25


def list_notes(target: NDArray[np.float32], card: Card, horizon: int) -> tuple[Note, ...]:
    """Return the notes on one forecast.

    Args:
        target: What the model reads of the series ``(time,)``, NaN where missing.
        card: The model.
        horizon: Steps asked for.
    """
    num_observed, length = _count_observed(target)
    enough = min(max(_SEASONS * card.season, _LEAST_VALUES), card.context_length)
    notes: list[Note] = []
    if num_observed < enough:
        notes.append("short_history")
    if length - num_observed > _MISSING_SHARE * length:
        notes.append("many_missing")
    if horizon > card.horizon:
        notes.append("extrapolated_horizon")
    return tuple(notes)


def _count_observed(target: NDArray[np.float32]) -> tuple[int, int]:
    """Return how many values are there, and how many steps there are since the first of them."""
    missing = np.isnan(target)
    num_missing = int(np.count_nonzero(missing))
    if not num_missing:
        return len(target), len(target)
    return len(target) - num_missing, len(target) - int(missing.argmin())
