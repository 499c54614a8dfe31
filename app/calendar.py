"""Frequencies, time stamps and seasons, shared by training and serving; no library beyond NumPy.

A frequency is a whole number of a unit. Months, quarters and years are counted from the start
stamp: a series that starts on the last day of a month stays on last days, any other keeps its day
of the month as far as the month has it.
"""

import calendar
import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidInputError

_ALIASES = {
    "s": "s", "S": "s",
    "min": "min", "T": "min",
    "h": "h", "H": "h",
    "D": "D", "B": "B",
    "W": "W",
    "M": "M", "MS": "M", "ME": "M",
    "Q": "Q", "QS": "Q", "QE": "Q",
    "Y": "Y", "YS": "Y", "YE": "Y", "A": "Y", "AS": "Y",
}  # fmt: skip
_FREQUENCY = re.compile(r"([1-9][0-9]{0,4})?([A-Za-z]{1,3})(-[A-Z]{3})?")
_SECONDS = {"s": 1, "min": 60, "h": 3600, "D": 86_400, "W": 604_800}
_MONTHS = {"M": 1, "Q": 3, "Y": 12}
_SEASON_SECONDS = {"s": 3600, "min": 86_400, "h": 86_400, "D": 604_800}
_SEASONS = {"B": 5, "W": 52, "M": 12, "Q": 4, "Y": 1}
_FIRST_YEAR, _LAST_YEAR = 1, 9999


@dataclass(frozen=True, slots=True)
class Frequency:
    """``count`` times ``unit``; the unit is one of s, min, h, D, B, W, M, Q, Y."""

    count: int
    unit: str

    @classmethod
    def parse(cls, alias: str) -> Self:
        """Read a pandas-like alias, such as ``h``, ``15min``, ``B``, ``W-SUN``, ``MS`` or ``QE``.

        Raises:
            InvalidInputError: It is none of those.
        """
        match = _FREQUENCY.fullmatch(alias)
        unit = _ALIASES.get(match[2]) if match else None
        if match is None or unit is None or (match[3] and unit not in {"W", "Q", "Y"}):
            raise InvalidInputError(
                "freq must be a count and one of s, min, h, D, B, W, M, Q, Y, such as 15min or MS"
            )
        return cls(int(match[1] or 1), unit)

    @property
    def alias(self) -> str:
        """The canonical alias: the count, unless it is one, and the unit."""
        return f"{self.count if self.count > 1 else ''}{self.unit}"

    @property
    def season(self) -> int:
        """Steps in the season that such data usually has; 1 where none is usual."""
        if self.unit in _SEASON_SECONDS:
            season, rest = divmod(_SEASON_SECONDS[self.unit], self.count * _SECONDS[self.unit])
        else:
            season, rest = divmod(_SEASONS[self.unit], self.count)
        return season if season > 0 and not rest else 1

    def shift(self, start: dt.datetime, steps: int) -> dt.datetime:
        """Return the stamp ``steps`` steps after ``start``.

        Raises:
            InvalidInputError: It lies outside the years 1 to 9999.
        """
        try:
            return self._shift(start, steps * self.count)
        except (OverflowError, ValueError) as error:
            raise InvalidInputError(
                f"start: time stamps must stay within the years {_FIRST_YEAR} to {_LAST_YEAR}"
            ) from error

    def _shift(self, start: dt.datetime, units: int) -> dt.datetime:
        if self.unit in _SECONDS:
            return start + dt.timedelta(seconds=units * _SECONDS[self.unit])
        if self.unit == "B":
            day = np.busday_offset(np.datetime64(start.date(), "D"), units, roll="backward")
            if day > np.datetime64(dt.date.max):
                raise OverflowError
            return dt.datetime.combine(day.astype(dt.date), start.timetz())
        year, month = divmod(start.year * 12 + start.month - 1 + units * _MONTHS[self.unit], 12)
        last = calendar.monthrange(year, month + 1)[1]
        starts_at_end = start.day == calendar.monthrange(start.year, start.month)[1]
        return start.replace(
            year=year, month=month + 1, day=last if starts_at_end else min(start.day, last)
        )

    def stamps(self, start: dt.datetime, first: int, count: int) -> list[dt.datetime]:
        """Return ``count`` stamps, beginning ``first`` steps after ``start``."""
        return [self.shift(start, first + step) for step in range(count)]

    def stamp_array(self, start: dt.datetime, first: int, count: int) -> NDArray[np.datetime64]:
        """Return what ``stamps`` does as ``datetime64[us]``, without offset, in one step.

        Raises:
            InvalidInputError: A stamp lies outside the years 1 to 9999.
        """
        for step in (first, first + count - 1):
            self.shift(start, step)
        naive = np.datetime64(start.replace(tzinfo=None), "us")
        day = naive.astype("M8[D]")
        units = (first + np.arange(count)) * self.count
        if self.unit in _SECONDS:
            return np.asarray(naive + units * np.timedelta64(_SECONDS[self.unit], "s"))
        if self.unit == "B":
            days = np.busday_offset(day, units, roll="backward")
        else:
            days = _shift_months(day, units * _MONTHS[self.unit])
        return np.asarray(days + (naive - day))


def _shift_months(day: np.datetime64, months: NDArray[np.int64]) -> NDArray[np.datetime64]:
    """Shift ``day`` by whole months, as ``Frequency.shift`` does."""
    into_month = (day - day.astype("M8[M]").astype("M8[D]")).astype(np.int64)
    month = day.astype("M8[M]") + months
    last = ((month + 1).astype("M8[D]") - month.astype("M8[D]")).astype(np.int64) - 1
    next_day = day + 1
    starts_at_end = next_day.astype("M8[M]") != day.astype("M8[M]")
    kept = last if starts_at_end else np.minimum(into_month, last)
    return np.asarray(month.astype("M8[D]") + kept)


def parse_stamp(text: str) -> dt.datetime:
    """Read an ISO 8601 date or date and time.

    Raises:
        InvalidInputError: It is neither.
    """
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInputError("start must be an ISO 8601 date or date and time") from error


def format_stamps(stamps: Sequence[dt.datetime], start: str) -> tuple[str, ...]:
    """Write stamps in ISO 8601: as dates where ``start`` is a date and all are midnights."""
    is_date = _is_date(start) and all(stamp.time() == dt.time() for stamp in stamps)
    return tuple((stamp.date() if is_date else stamp).isoformat() for stamp in stamps)


def _is_date(text: str) -> bool:
    try:
        dt.date.fromisoformat(text)
    except ValueError:
        return False
    return True
