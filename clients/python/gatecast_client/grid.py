"""Where a time stamp lies on the grid that a start and a frequency make."""

import calendar
import datetime as dt
import re
from collections.abc import Callable

Stamp = dt.date
"""A date, or a date and time, which is a kind of date."""

_FREQUENCY = re.compile(r"([1-9][0-9]{0,4})?([A-Za-z]{1,3})(?:-[A-Z]{3})?")
_SECONDS = {
    "s": 1, "S": 1,
    "min": 60, "T": 60,
    "h": 3600, "H": 3600,
    "D": 86_400,
    "W": 604_800,
}  # fmt: skip
_MONTHS = {
    "M": 1, "MS": 1, "ME": 1,
    "Q": 3, "QS": 3, "QE": 3,
    "Y": 12, "YS": 12, "YE": 12, "A": 12, "AS": 12,
}  # fmt: skip
_WORKDAYS = 5


def grid_of(freq: str, start: Stamp) -> Callable[[Stamp], int | None]:
    """Return what counts the steps from ``start`` to a stamp; None for one off the grid.

    Args:
        freq: A count and a unit, as the service takes them: ``MS``, ``D``, ``15min``, ``B``.
        start: The first stamp, of the same kind as all others, and on the same clock.

    Raises:
        ValueError: ``freq`` is none.
    """
    match = _FREQUENCY.fullmatch(freq)
    count, unit = (int(match[1] or 1), match[2]) if match else (0, "")
    if unit in _SECONDS:
        return lambda stamp: _whole(_seconds(stamp, start), count * _SECONDS[unit])
    if unit in _MONTHS:
        return lambda stamp: _months(stamp, start, count * _MONTHS[unit])
    if unit == "B":
        return lambda stamp: _business_days(stamp, start, count)
    raise ValueError(f"freq {freq!r} is not known; give a count and a unit, such as 15min or MS")


def begins_alike(freq: str, start: Stamp, stamp: Stamp) -> bool:
    """Whether ``stamp``, which is on the grid of ``start``, begins a grid of the same stamps."""
    match = _FREQUENCY.fullmatch(freq)
    if match is None or match[2] not in _MONTHS:
        return True
    are_last = [one.day == _last_day(one) for one in (start, stamp)]
    return all(are_last) or (not any(are_last) and start.day == stamp.day)


def _whole(distance: float, size: int) -> int | None:
    steps = round(distance / size)
    return steps if steps * size == distance else None


def _seconds(stamp: Stamp, start: Stamp) -> float:
    return (stamp - start).total_seconds()


def _months(stamp: Stamp, start: Stamp, size: int) -> int | None:
    months = (stamp.year - start.year) * 12 + stamp.month - start.month
    return _whole(months, size) if _keeps_day(stamp, start) else None


def _keeps_day(stamp: Stamp, start: Stamp) -> bool:
    """Whether ``stamp`` is ``start`` shifted by whole months: last days stay last days."""
    last = _last_day(stamp)
    day = last if start.day == _last_day(start) else min(start.day, last)
    return stamp.day == day and _time_of_day(stamp) == _time_of_day(start)


def _last_day(stamp: Stamp) -> int:
    return calendar.monthrange(stamp.year, stamp.month)[1]


def _time_of_day(stamp: Stamp) -> dt.time:
    return stamp.time() if isinstance(stamp, dt.datetime) else dt.time()


def _business_days(stamp: Stamp, start: Stamp, count: int) -> int | None:
    if stamp.weekday() >= _WORKDAYS or _time_of_day(stamp) != _time_of_day(start):
        return None
    days = (stamp - start).days
    weeks, rest = divmod(days, 7)
    between = (start.weekday() + day for day in range(rest))
    workdays = weeks * _WORKDAYS + sum(day % 7 < _WORKDAYS for day in between)
    return _whole(workdays, count)
