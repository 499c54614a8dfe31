"""A request that a model will answer, for a user's first call."""

import math
from typing import Any

from app.artifact.card import Card
from app.artifact.metadata import AnyCard
from app.artifact.sequence_card import SequenceCard

_LENGTH = 36
_SEQUENCE_LENGTH = 8
_PERIOD = 12
_HORIZON = 3
_START = "2024-01-01"


def summarize(card: AnyCard) -> str:
    """Say in a few words what a model does."""
    if isinstance(card, Card):
        return f"{card.cell.upper()}, {card.freq or 'integer'} steps, {card.horizon} ahead"
    answers = f"{len(card.targets)} targets" if card.targets else f"{len(card.classes)} classes"
    return f"{card.cell.upper()}, {card.task}, {len(card.features)} features, {answers}"


def example_request(card: AnyCard) -> dict[str, Any]:
    """Return a small request with everything that the model asks for."""
    return _to_forecast(card) if isinstance(card, Card) else _of_sequence(card)


def _of_sequence(card: SequenceCard) -> dict[str, Any]:
    steps = range(min(_SEQUENCE_LENGTH, card.max_length))
    values = [
        [round(math.sin(step + place), 2) for place in range(len(card.features))] for step in steps
    ]
    return {"sequences": [{"item_id": "example", "values": values}]}


def _to_forecast(card: Card) -> dict[str, Any]:
    length, horizon = min(_LENGTH, card.context_length), min(_HORIZON, card.horizon)
    levels = card.quantile_levels
    series: dict[str, Any] = {
        "item_id": "example",
        "target": [
            round(100 + step + 20 * math.sin(2 * math.pi * step / _PERIOD))
            for step in range(length)
        ],
        "past_covariates": {name: [0] * length for name in card.past_covariates},
        "future_covariates": {name: [0] * (length + horizon) for name in card.future_covariates},
        "static_covariates": {
            name: card.static_categories[name][0] if name in card.static_categories else 0
            for name in card.static_covariates
        },
        "start": _START if card.calendar_features else None,
    }
    return {
        "series": [{name: value for name, value in series.items() if value}],
        "horizon": horizon,
        "quantile_levels": sorted({levels[0], levels[len(levels) // 2], levels[-1]}),
    }
