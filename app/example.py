"""A request that a model will answer, for a user's first call."""

import math
from typing import Any

from app.artifact import Card

_LENGTH = 36
_PERIOD = 12
_HORIZON = 3
_START = "2024-01-01"


def example_request(card: Card) -> dict[str, Any]:
    """Return a small forecast request with everything that the model asks for."""
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
