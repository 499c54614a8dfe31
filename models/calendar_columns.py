"""Calendar features of series that training and backtests read: columns after those of the file."""

import datetime as dt
from dataclasses import replace
from functools import partial

import numpy as np

from app.calendar import Frequency
from app.calendar_features import CalendarFeatures
from app.errors import InvalidInputError
from app.holiday_calendar import HolidayCalendar
from models.series import Series, SeriesSet
from models.store import SeriesView


def choose_calendar(
    items: SeriesSet, *, is_cyclic: bool, country: str | None
) -> CalendarFeatures | None:
    """Return the features that a user asks for; None where that is none.

    Args:
        items: The series, whose frequency decides.
        is_cyclic: Whether hours, weekdays, months and the like are wanted.
        country: Whose holidays are wanted.

    Raises:
        InvalidInputError: Series of this frequency have none, or the holidays are not known.
    """
    if not is_cyclic and country is None:
        return None
    if items.freq is None:
        raise InvalidInputError(
            "time is a plain integer step: calendar features and holidays need time stamps"
        )
    return CalendarFeatures.of_frequency(
        Frequency.parse(items.freq),
        is_cyclic=is_cyclic,
        holidays=None if country is None else HolidayCalendar.of_country(country),
    )


def add_calendar(items: SeriesSet, calendar: CalendarFeatures | None, *, horizon: int) -> SeriesSet:
    """Append the columns of ``calendar`` to the future covariates of every series.

    Args:
        items: Series with time stamps.
        calendar: What to compute; None leaves the series as they are.
        horizon: Steps after the last value that must have the features.
    """
    if calendar is None:
        return items
    extend = partial(_extend, calendar=calendar, horizon=horizon)
    series = items.series
    extended = series.map(extend) if isinstance(series, SeriesView) else tuple(map(extend, series))
    return replace(items, series=extended, calendar_features=calendar.names)


def _extend(item: Series, calendar: CalendarFeatures, horizon: int) -> Series:
    if not isinstance(item.start, dt.datetime):
        raise InvalidInputError(f"item {item.item_id} has no time stamps for calendar features")
    count = len(item.target) + max(item.known_ahead, horizon)
    given = item.future_covariates
    columns = np.full((count, given.shape[1] + len(calendar.names)), np.nan)
    columns[: len(given), : given.shape[1]] = given
    columns[:, given.shape[1] :] = calendar.compute(item.start, 0, count)
    return replace(item, future_covariates=columns)
