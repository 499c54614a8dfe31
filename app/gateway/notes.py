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
    observed = np.flatnonzero(~np.isnan(target))
    enough = min(max(_SEASONS * card.season, _LEAST_VALUES), card.context_length)
    length = len(target) - int(observed[0])
    notes: list[Note] = []
    if observed.size < enough:
        notes.append("short_history")
    if length - observed.size > _MISSING_SHARE * length:
        notes.append("many_missing")
    if horizon > card.horizon:
        notes.append("extrapolated_horizon")
    return tuple(notes)
