"""Series as training and backtests see them: regular steps, NaN where a value is missing."""

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def no_covariates() -> FloatArray:
    """Return covariates of shape ``(0, 0)``, which stand for none."""
    return np.empty((0, 0))


@dataclass(frozen=True, slots=True)
class Series:
    """One series.

    Attributes:
        item_id: Its name.
        target: Values ``(time,)``, NaN where missing; the first and the last one are observed.
        start: Stamp of the first step; an integer where time is a plain step.
        past_covariates: ``(time, num_past)``, or ``(0, 0)``.
        future_covariates: ``(time + known, num_future)``, or ``(0, 0)``; ``known`` steps lie ahead.
            Calendar features are its last columns.
        static_covariates: ``(num_static,)``; a category counts the known texts from 1, 0 is none.
    """

    item_id: str
    target: FloatArray
    start: dt.datetime | int = 0
    past_covariates: FloatArray = field(default_factory=no_covariates)
    future_covariates: FloatArray = field(default_factory=no_covariates)
    static_covariates: FloatArray = field(default_factory=lambda: np.empty(0))

    @property
    def num_observations(self) -> int:
        """Values that are not missing."""
        return int(np.count_nonzero(~np.isnan(self.target)))

    @property
    def known_ahead(self) -> int:
        """Steps after the last value whose future covariates are known."""
        return max(0, len(self.future_covariates) - len(self.target))

    def until(self, stop: int) -> Self:
        """Return the series as it was known after ``stop`` steps; future covariates stay."""
        return replace(self, target=self.target[:stop], past_covariates=self.past_covariates[:stop])


@dataclass(frozen=True, slots=True)
class SeriesSet:
    """Series that one model learns from or is scored on.

    Attributes:
        series: The series, in the order of their first row in the file.
        freq: Frequency alias, None where time is a plain integer step.
        season: Steps in one season, 1 where there is none.
        past_covariates: Names of the columns of each series' ``past_covariates``.
        future_covariates: Likewise.
        static_covariates: Likewise.
        static_categories: Known texts of its last columns, one tuple each.
        calendar_features: Names of the last columns of each series' ``future_covariates``.
    """

    series: Sequence[Series]
    freq: str | None
    season: int
    past_covariates: tuple[str, ...] = ()
    future_covariates: tuple[str, ...] = ()
    static_covariates: tuple[str, ...] = ()
    static_categories: tuple[tuple[str, ...], ...] = ()
    calendar_features: tuple[str, ...] = ()

    @property
    def lengths(self) -> list[int]:
        """Steps of each series."""
        return [len(item.target) for item in self.series]

    @property
    def num_observations(self) -> int:
        """Values that are not missing, over all series."""
        return sum(item.num_observations for item in self.series)

    @property
    def has_negative_values(self) -> bool:
        """Whether any value is below zero."""
        return any(bool((item.target < 0).any()) for item in self.series)

    @property
    def digest(self) -> str:
        """SHA-256 of everything a model could learn from; the season to follow is a choice."""
        names = (self.past_covariates, self.future_covariates, self.static_covariates)
        digest = hashlib.sha256(repr((self.freq, names)).encode())
        if self.static_categories or self.calendar_features:
            digest.update(repr((self.static_categories, self.calendar_features)).encode())
        for item in self.series:
            digest.update(repr((item.item_id, len(item.target), item.start)).encode())
            digest.update(item.target.astype("<f8").tobytes())
            for values in (item.past_covariates, item.future_covariates, item.static_covariates):
                digest.update(values.astype("<f8").tobytes())
        return digest.hexdigest()
