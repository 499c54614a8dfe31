"""Covariates that follow from time stamps alone, computed alike in training and in serving.

A cyclic feature is a pair of sine and cosine, so that the last hour of a day lies beside the first.
They are columns of ``future_covariates`` after those that a caller gives. Stamps are wall time, in
the offset from UTC that ``start`` has.
"""

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.calendar import Frequency
from app.errors import InvalidInputError
from app.holiday_calendar import HolidayCalendar

Stamps = NDArray[np.datetime64]
"""``datetime64[us]``, ``(time,)``."""

Numbers = NDArray[np.float64]

HOLIDAY = "holiday"
"""1 on a public holiday, else 0."""

_DAY_MICROSECONDS = 86_400 * 1_000_000
_DAYS_IN_A_YEAR = 366


def _hour(stamps: Stamps) -> Numbers:
    into_day = (stamps - stamps.astype("M8[D]")).astype(np.int64)
    return np.asarray(into_day / _DAY_MICROSECONDS)


def _weekday(stamps: Stamps) -> Numbers:
    """Monday is 0; 1970-01-01 was a Thursday."""
    return np.asarray((stamps.astype("M8[D]").astype(np.int64) + 3) % 7 / 7)


def _month_day(stamps: Stamps) -> Numbers:
    days = stamps.astype("M8[D]")
    return np.asarray((days - days.astype("M8[M]").astype("M8[D]")).astype(np.int64) / 31)


def _month(stamps: Stamps) -> Numbers:
    return np.asarray(stamps.astype("M8[M]").astype(np.int64) % 12 / 12)


def _year_day(stamps: Stamps) -> Numbers:
    days = stamps.astype("M8[D]")
    into_year = (days - days.astype("M8[Y]").astype("M8[D]")).astype(np.int64)
    return np.asarray(into_year / _DAYS_IN_A_YEAR)


_CYCLES: Mapping[str, Callable[[Stamps], Numbers]] = {
    "hour": _hour,
    "weekday": _weekday,
    "month_day": _month_day,
    "month": _month,
    "year_day": _year_day,
}
_WAVES: Mapping[str, Callable[[Numbers], Numbers]] = {"sin": np.sin, "cos": np.cos}
_DAILY = ("weekday", "month_day", "year_day")
_CYCLES_OF_UNITS = {
    "s": ("hour", "weekday", "year_day"),
    "min": ("hour", "weekday", "year_day"),
    "h": ("hour", "weekday", "year_day"),
    "D": _DAILY,
    "B": _DAILY,
    "W": ("year_day",),
    "M": ("month",),
    "Q": ("month",),
}
_UNITS_WITH_HOLIDAYS = frozenset({"s", "min", "h", "D", "B"})

CALENDAR_FEATURES = (*(f"{cycle}_{wave}" for cycle in _CYCLES for wave in _WAVES), HOLIDAY)
"""Every feature that a card may name."""


@dataclass(frozen=True, slots=True)
class CalendarFeatures:
    """The features of one model.

    Attributes:
        names: Some of ``CALENDAR_FEATURES``, as columns in this order.
        freq: Spacing of the steps.
        holidays: Where ``holiday`` comes from; None where it is not named.
    """

    names: tuple[str, ...]
    freq: Frequency
    holidays: HolidayCalendar | None = None

    @classmethod
    def of_frequency(
        cls, freq: Frequency, *, is_cyclic: bool, holidays: HolidayCalendar | None
    ) -> "CalendarFeatures":
        """Choose what tells the steps of ``freq`` apart.

        Args:
            freq: Spacing of the steps.
            is_cyclic: Whether hours, weekdays, months and the like are wanted.
            holidays: Where holidays come from, if they are wanted.

        Raises:
            InvalidInputError: Steps of this spacing have no such feature.
        """
        cycles = _CYCLES_OF_UNITS.get(freq.unit, ()) if is_cyclic else ()
        if is_cyclic and not cycles:
            raise InvalidInputError(f"steps of {freq.alias} have no calendar features")
        if holidays is not None and freq.unit not in _UNITS_WITH_HOLIDAYS:
            raise InvalidInputError(f"holidays need steps of a day or less, not of {freq.alias}")
        names = [f"{cycle}_{wave}" for cycle in cycles for wave in _WAVES]
        names += [] if holidays is None else [HOLIDAY]
        return cls(tuple(names), freq, holidays)

    def compute(self, start: dt.datetime, first: int, count: int) -> NDArray[np.float32]:
        """Return the features of ``count`` steps, from ``first`` steps after ``start`` on.

        Returns: ``(count, num_features)``.

        Raises:
            InvalidInputError: A step lies outside the years 1 to 9999.
        """
        stamps = self.freq.stamp_array(start, first, count)
        table = np.empty((count, len(self.names)), np.float32)
        for column, name in enumerate(self.names):
            table[:, column] = _column(name, stamps, self.holidays)
        return table


def _column(name: str, stamps: Stamps, holidays: HolidayCalendar | None) -> Numbers:
    if name == HOLIDAY and holidays is not None:
        return np.asarray(holidays.are_holidays(stamps.astype("M8[D]")), np.float64)
    cycle, _, wave = name.rpartition("_")
    return _WAVES[wave](2 * np.pi * _CYCLES[cycle](stamps))
