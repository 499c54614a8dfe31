"""Quantiles at the levels a caller asks for, from those a model was trained on."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class QuantileSelection:
    """Each level lies ``weight`` of the way from trained level ``lower`` to ``upper``.

    ``kept`` are the trained levels that are wanted, where all are trained ones; None where some lie
    between two.
    """

    levels: tuple[float, ...]
    lower: NDArray[np.intp]
    upper: NDArray[np.intp]
    weight: NDArray[np.float64]
    kept: NDArray[np.intp] | slice | None

    @staticmethod
    def between(trained: Sequence[float], levels: Sequence[float]) -> "QuantileSelection":
        """Prepare to read ``levels`` from a model of ``trained`` levels, both ascending.

        Raises:
            InvalidInputError: ``levels`` do not ascend, or one is outside the trained range.
        """
        return _select(tuple(trained), tuple(levels))

    def apply(self, quantiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Read the levels.

        Args:
            quantiles: ``(batch, horizon, num_trained)``, ascending on the last axis.

        Returns: ``(batch, num_levels, horizon)``, ascending on axis 1; trained levels come back bit
        by bit.
        """
        by_level = quantiles.swapaxes(1, 2)
        if self.kept is not None:
            return np.ascontiguousarray(by_level[:, self.kept])
        below = by_level[:, self.lower].astype(np.float64)
        above = by_level[:, self.upper].astype(np.float64)
        between = below + self.weight[:, np.newaxis] * (above - below)
        # Rounding must not let a level pass the next one.
        return np.maximum.accumulate(between, axis=1).astype(np.float32)


@functools.lru_cache(maxsize=256)
def _select(trained: tuple[float, ...], levels: tuple[float, ...]) -> QuantileSelection:
    _check(levels, trained[0], trained[-1])
    known, wanted = np.array(trained), np.array(levels)
    lower = np.searchsorted(known, wanted, side="right") - 1
    upper = np.minimum(lower + 1, len(known) - 1)
    gap = np.where(upper > lower, known[upper] - known[lower], 1.0)
    weight = (wanted - known[lower]) / gap
    kept = None if weight.any() else slice(None) if levels == trained else lower
    return QuantileSelection(levels, lower, upper, weight, kept)


def _check(levels: Sequence[float], least: float, most: float) -> None:
    for index, level in enumerate(levels):
        pointer = f"/quantile_levels/{index}"
        if index and level <= levels[index - 1]:
            raise InvalidInputError("quantile_levels must ascend, each once", pointer)
        if not least <= level <= most:
            raise InvalidInputError(
                f"quantile_levels must be within {least} and {most} for this model", pointer
            )
