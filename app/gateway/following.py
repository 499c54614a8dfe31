"""The rows of a run that goes on where another one ended, its medians in place of values."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from app.artifact.card import Card
from app.extrapolation import median_index
from app.gateway.preparation import Row
from app.tensors import LARGEST_MAGNITUDE


def follow_rows(rows: Sequence[Row], quantiles: NDArray[np.float32], card: Card) -> list[Row]:
    """Move rows on by the model's horizon.

    Args:
        rows: What the model has run on.
        quantiles: What it gave ``(batch, model horizon, num_quantiles)``.
        card: The model.
    """
    medians = quantiles[..., median_index(card.quantile_levels)]
    medians = medians.clip(-LARGEST_MAGNITUDE, LARGEST_MAGNITUDE)
    return [_follow(row, steps, card) for row, steps in zip(rows, medians, strict=True)]


def _follow(row: Row, medians: NDArray[np.float32], card: Card) -> Row:
    target = np.concatenate([row.target, medians])[-card.context_length :]
    past, known = row.past_covariates, row.future_covariates
    unknown = np.full((len(medians), past.shape[1]), np.nan, np.float32)
    later = row.later_covariates
    if later is not None:
        known = np.concatenate([known, later[: len(medians)]])
        later = later[len(medians) :]
    return replace(
        row,
        target=target,
        past_covariates=np.concatenate([past, unknown])[-card.context_length :],
        future_covariates=known[-len(target) - card.horizon :],
        later_covariates=later,
    )
