"""TimeGPT's levels: an interval that holds so many percent, between two quantiles."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from app.artifact.card import Card
from app.errors import InvalidInputError

_DIGITS = 10
_SMALLEST = np.float32(1e-30)


@dataclass(frozen=True, slots=True)
class Intervals:
    """Intervals around the median; each name is that of a level, such as ``80``."""

    names: tuple[str, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    quantile_levels: tuple[float, ...]

    @classmethod
    def within(cls, levels: Sequence[float], card: Card, pointer: str) -> Self:
        """Prepare the intervals of ``levels``; a level that comes twice counts once.

        Raises:
            InvalidInputError: A level is beyond the model's outermost quantiles.
        """
        widest = _widest(card)
        for place, level in enumerate(levels):
            if level > widest:
                raise InvalidInputError(
                    f"level must be at most {widest:g} for this model", pointer.format(place)
                )
        unique = sorted(set(levels))
        lower = tuple(round((100 - level) / 200, _DIGITS) for level in unique)
        upper = tuple(round((100 + level) / 200, _DIGITS) for level in unique)
        known = tuple(sorted({0.5, *lower, *upper}))
        return cls(tuple(f"{level:g}" for level in unique), lower, upper, known)

    def median(self, quantiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take the median from ``(num_levels, time)``."""
        row: NDArray[np.float32] = quantiles[self.quantile_levels.index(0.5)]
        return row

    def bounds(self, quantiles: NDArray[np.float32]) -> dict[str, NDArray[np.float32]] | None:
        """Take the ends of each interval, named as the SDK names columns; None without levels."""
        found: dict[str, NDArray[np.float32]] = {}
        for name, low, high in zip(self.names, self.lower, self.upper, strict=True):
            found[f"lo-{name}"] = quantiles[self.quantile_levels.index(low)]
            found[f"hi-{name}"] = quantiles[self.quantile_levels.index(high)]
        return found or None

    def scores(
        self, values: NDArray[np.float32], quantiles: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Say how far ``values`` are from the median, as shares of the way to the interval's end.

        A magnitude above 1 is outside the one interval that there is; a missing value has 0.
        """
        median = self.median(quantiles)
        low = quantiles[self.quantile_levels.index(self.lower[0])]
        high = quantiles[self.quantile_levels.index(self.upper[0])]
        distance = values - median
        width = np.maximum(np.where(distance < 0, median - low, high - median), _SMALLEST)
        with np.errstate(over="ignore"):  # an interval of no width
            scores: NDArray[np.float32] = np.nan_to_num(distance / width, nan=0.0)
        return scores


def _widest(card: Card) -> float:
    lowest, highest = card.quantile_levels[0], card.quantile_levels[-1]
    return round(min(100 - 200 * lowest, 200 * highest - 100), _DIGITS)
