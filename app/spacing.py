"""The spacing of time stamps: which frequency they follow, and where on its grid each one lies."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from app.calendar import Frequency
from app.errors import InvalidInputError

Stamps = NDArray[np.datetime64]
"""``datetime64[us]``, ascending."""

Positions = NDArray[np.int64]

Parts = Callable[[], Iterable[Sequence[Stamps]]]
"""Makes an iterator over parts of a set, each the stamps of some of its series."""

OFF_GRID = -1

_UNITS = (("W", 604_800), ("D", 86_400), ("h", 3600), ("min", 60), ("s", 1))
_SECONDS = dict(_UNITS)
_MICROSECONDS = 1_000_000
_MONTHS = {"M": 1, "Q": 3, "Y": 12}
_LARGEST_COUNT = 99_999
_LEAST_FILLED_SHARE = 0.2
_WEEKDAYS = 5
_WEEK = 7


def infer_frequency(series: Sequence[Stamps]) -> Frequency:
    """Find the coarsest grid on which every stamp of every series lies.

    Whole months are tried first, then business days, then whole seconds. Months need stamps that
    keep their day of the month, or always fall on its last day.

    Args:
        series: The stamps of each series, ascending and distinct.

    Raises:
        InvalidInputError: No series has two stamps, or they follow no grid.
    """
    return infer_frequency_in_parts(lambda: (series,))


def infer_frequency_in_parts(parts: Parts) -> Frequency:
    """Find the same where there is no room for all stamps at once.

    Args:
        parts: Begins anew, each time it is called, with some series after the other.

    Raises:
        InvalidInputError: As ``infer_frequency``.
    """

    def list_several() -> Iterator[Sequence[Stamps]]:
        for part in parts():
            if several := [stamps for stamps in part if len(stamps) > 1]:
                yield several

    if next(list_several(), None) is None:
        raise InvalidInputError("freq can not be inferred from single time stamps: give freq")
    frequency = _monthly(list_several) or _daily(list_several) or _in_seconds(list_several)
    _check_filled(list_several, frequency)
    return frequency


def _check_filled(parts: Parts, frequency: Frequency) -> None:
    num_stamps, num_steps = 0, 0.0
    for series in parts():
        num_stamps += sum(map(len, series))
        spans = [grid_positions(stamps, frequency)[-1] + 1 for stamps in series]
        num_steps += float(np.sum(spans))
    if num_stamps < _LEAST_FILLED_SHARE * num_steps:
        raise InvalidInputError(
            f"freq can not be inferred: the time stamps fill less than {_LEAST_FILLED_SHARE:.0%} "
            f"of a grid of {frequency.alias}; give freq if that is what they follow"
        )


def grid_positions(
    stamps: Stamps, frequency: Frequency, origins: Stamps | None = None
) -> Positions:
    """Count the steps from the first stamp to each one; ``OFF_GRID`` where that is no whole number.

    Args:
        stamps: Ascending, ``(count,)``.
        frequency: The grid, beginning at the first stamp; see ``app.calendar.Frequency.shift``.
        origins: For stamps of several series: the first stamp of the series that each belongs to.
    """
    origins = stamps[:1] if origins is None else origins
    if frequency.unit in _SECONDS:
        units = (stamps - origins).astype(np.int64)
        size = _SECONDS[frequency.unit] * _MICROSECONDS
    elif frequency.unit == "B":
        days = stamps.astype("M8[D]")
        units, size = np.busday_count(origins.astype("M8[D]"), days), 1
        units = np.where(np.is_busday(days) & _same_time(stamps, origins), units, OFF_GRID)
    else:
        months = (stamps.astype("M8[M]") - origins.astype("M8[M]")).astype(np.int64)
        units, size = months, _MONTHS[frequency.unit]
        units = np.where(_keeps_day(stamps, origins), units, OFF_GRID)
    step, rest = np.divmod(units, size * frequency.count)
    positions: Positions = np.where((rest == 0) & (units >= 0), step, OFF_GRID)
    return positions


def _monthly(parts: Parts) -> Frequency | None:
    step = 0
    for series in parts():
        if not all(_keeps_day(stamps, stamps[:1]).all() for stamps in series):
            return None
        months = [np.diff(stamps.astype("M8[M]").astype(np.int64)) for stamps in series]
        step = math.gcd(step, int(np.gcd.reduce(np.concatenate(months))))
    for unit, size in (("Y", 12), ("Q", 3), ("M", 1)):
        if step and step % size == 0:
            return Frequency(step // size, unit)
    return None


def _daily(parts: Parts) -> Frequency | None:
    """Business days: days apart, none on a weekend, over more than one week."""
    step, crosses_weekend = 0, False
    for series in parts():
        if not all(_same_time(stamps, stamps[:1]).all() for stamps in series):
            return None
        days = [stamps.astype("M8[D]") for stamps in series]
        if any(int(_weekday(each).max()) >= _WEEKDAYS for each in days):
            return None
        steps = np.concatenate([np.diff(each) for each in days]).astype(np.int64)
        step = math.gcd(step, int(np.gcd.reduce(steps)))
        spans = (int((each[-1] - each[0]).astype(np.int64)) for each in days)
        crosses_weekend = crosses_weekend or any(span >= _WEEK for span in spans)
    return Frequency(1, "B") if step == 1 and crosses_weekend else None


def _in_seconds(parts: Parts) -> Frequency:
    step = 0
    for series in parts():
        steps = np.concatenate([np.diff(stamps) for stamps in series]).astype(np.int64)
        step = math.gcd(step, int(np.gcd.reduce(steps)))
    seconds, rest = divmod(step, _MICROSECONDS)
    if rest:
        raise InvalidInputError(
            "freq can not be inferred: the time stamps are not whole seconds apart"
        )
    unit, size = next((unit, size) for unit, size in _UNITS if seconds % size == 0)
    if seconds // size > _LARGEST_COUNT:
        raise InvalidInputError("freq can not be inferred: the time stamps are too far apart")
    return Frequency(seconds // size, unit)


def _weekday(days: Stamps) -> Positions:
    """Monday is 0; 1970-01-01 was a Thursday."""
    weekday: Positions = (days.astype(np.int64) + 3) % 7
    return weekday


def _same_time(stamps: Stamps, origins: Stamps) -> NDArray[np.bool_]:
    same: NDArray[np.bool_] = _time_of_day(stamps) == _time_of_day(origins)
    return same


def _time_of_day(stamps: Stamps) -> Positions:
    time: Positions = (stamps - stamps.astype("M8[D]")).astype(np.int64)
    return time


def _keeps_day(stamps: Stamps, origins: Stamps) -> NDArray[np.bool_]:
    """Whether each stamp is its origin shifted by whole months, as in ``Frequency.shift``."""
    day, last = _day_of_month(stamps)
    origin_day, origin_last = _day_of_month(origins)
    expected = np.where(origin_day == origin_last, last, np.minimum(origin_day, last))
    keeps: NDArray[np.bool_] = (day == expected) & _same_time(stamps, origins)
    return keeps


def is_month_end(stamp: np.datetime64) -> bool:
    """Whether a stamp is on the last day of its month."""
    day, last = _day_of_month(np.array(stamp))
    return bool(day == last)


def _day_of_month(stamps: Stamps) -> tuple[Positions, Positions]:
    """Return the day of the month, and the last one of that month; both count from 0."""
    month = stamps.astype("M8[M]")
    day = (stamps.astype("M8[D]") - month.astype("M8[D]")).astype(np.int64)
    last = ((month + 1).astype("M8[D]") - month.astype("M8[D]")).astype(np.int64) - 1
    return day, last


def grid_stamps(start: np.datetime64, frequency: Frequency, count: int) -> Stamps:
    """Return ``count`` stamps from ``start`` on, as ``Frequency.shift`` counts them.

    Raises:
        InvalidInputError: One lies outside the years that a stamp may have.
    """
    first = np.array(start, "M8[us]")
    frequency.shift(first.item(), count - 1)
    return shift_stamps(first, frequency, np.arange(count, dtype=np.int64))


def shift_stamps(starts: Stamps, frequency: Frequency, steps: Positions) -> Stamps:
    """Return the stamps that many steps after their starts, as ``Frequency.shift`` counts them.

    The two shapes are broadcast. No year is too large here.
    """
    units = steps * frequency.count
    if frequency.unit in _SECONDS:
        return np.asarray(starts + units * _SECONDS[frequency.unit] * _MICROSECONDS)
    days = starts.astype("M8[D]")
    time = starts - days
    if frequency.unit == "B":
        days = np.busday_offset(days, units, roll="backward")
    else:
        months = starts.astype("M8[M]") + units * _MONTHS[frequency.unit]
        start_day, start_last = _day_of_month(starts)
        _, last = _day_of_month(months.astype("M8[us]"))
        is_at_end = start_day == start_last
        days = months.astype("M8[D]") + np.where(is_at_end, last, np.minimum(start_day, last))
    return np.asarray(days.astype("M8[us]") + time)
