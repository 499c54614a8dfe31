"""Forecasts beyond the horizon that a model was trained for, in blocks of that horizon.

Each block is a run of the model on the series with the medians so far in place of values. Such a
run takes them as observed, so its intervals start anew at the width of one step. They are widened
by what the run before was unsure of at its last step: with ``d(h)`` the distance of a quantile from
the median ``h`` steps into a block,

    wide(h)^2 = wide of the step before the block^2 + max(0, d(h)^2 - d(0)^2)

where ``d(0)^2`` is what the line through ``d(1)^2`` and the last ``d(h)^2`` has at zero, at least
0. For a random walk, whose ``d(h)^2`` grows as ``h``, that goes on as it should; for noise around a
level that is known, whose ``d`` is constant, it stays. It never becomes narrower than the model's
own step, or than the last step that the model was trained for.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def median_index(quantile_levels: Sequence[float]) -> int:
    """Return the place of the level nearest to 0.5."""
    distances = [abs(level - 0.5) for level in quantile_levels]
    return distances.index(min(distances))


def join_blocks(
    blocks: Sequence[NDArray[np.float32]], median: int, *, is_nonnegative: bool
) -> NDArray[np.float32]:
    """Join the quantiles of successive blocks and widen all but the first.

    Args:
        blocks: Each ``(batch, horizon, num_quantiles)``, ascending on the last axis.
        median: Place of the median among the quantiles.
        is_nonnegative: Whether no forecast may be negative.

    Returns: ``(batch, blocks * horizon, num_quantiles)``, ascending; the first block as it is.
    """
    if len(blocks) == 1:
        return blocks[0]
    joined = [blocks[0]]
    before = _distances(blocks[0], median)[:, -1:]
    for block in blocks[1:]:
        own = _distances(block, median)
        growth = np.maximum(own**2 - _at_zero(own**2), 0.0)
        wide = np.maximum(np.sqrt(before**2 + growth), np.abs(own))
        joined.append(_place(block, wide, median, is_nonnegative=is_nonnegative))
        before = wide[:, -1:]
    return np.concatenate(joined, axis=1)


def _distances(block: NDArray[np.float32], median: int) -> NDArray[np.float64]:
    values = block.astype(np.float64)
    distances: NDArray[np.float64] = np.abs(values - values[..., median, np.newaxis])
    return distances


def _at_zero(squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Follow the squared distances back to the step before the block ``(batch, 1, num)``."""
    steps = squares.shape[1] - 1
    first, last = squares[:, :1], squares[:, -1:]
    if not steps:
        return np.zeros_like(first)
    start: NDArray[np.float64] = np.maximum(first - (last - first) / steps, 0.0)
    return start


def _place(
    block: NDArray[np.float32], wide: NDArray[np.float64], median: int, *, is_nonnegative: bool
) -> NDArray[np.float32]:
    side = np.sign(np.arange(block.shape[-1]) - median)
    largest = float(np.finfo(np.float32).max)
    placed = block[..., median, np.newaxis].astype(np.float64) + side * wide
    placed = np.clip(placed, 0.0 if is_nonnegative else -largest, largest)
    return np.maximum.accumulate(placed, axis=-1).astype(np.float32)
