"""The series of a chunk as a model takes them, and the stamps of their forecasts."""

import datetime as dt
import functools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from app.bulk.options import Aim
from app.calendar import Frequency
from app.calendar_features import CalendarFeatures
from app.errors import InvalidInputError
from app.files.series import FileSeries
from app.gateway.preparation import Row
from app.spacing import grid_stamps

Stamps = NDArray[np.datetime64]


class RowMaker:
    """Turns series of one file into rows of one model."""

    def __init__(self, aim: Aim) -> None:
        self._card = aim.card
        self._horizon = aim.horizon
        self._calendar = aim.card.calendar

    def to_row(self, position: int, series: FileSeries) -> Row:
        """Return the row of a series, cut to the model's context.

        Raises:
            InvalidInputError: It has no values, or the file does not tell its future covariates or
                the time stamps that the model needs.
        """
        length, kept = len(series.target), self._card.context_length
        if not length:
            raise InvalidInputError("no row of it has a value")
        past = _columns(series.past_covariates, self._card.past_covariates, length)
        return Row(
            position=position,
            target=series.target[-kept:].astype(np.float32),
            past_covariates=past[-kept:],
            future_covariates=self._with_calendar(
                self._future(series)[-kept - self._card.horizon :], series
            ),
            static_covariates=np.array(
                [series.static_covariates[name] for name in self._card.static_covariates],
                np.float32,
            ),
            timestamps=None,
        )

    def stamps_ahead(self, series: FileSeries) -> Stamps | None:
        """Return the stamps of the steps ahead; None where time is a plain step.

        Raises:
            InvalidInputError: They lie outside the years that a stamp may have.
        """
        if series.start is None or series.freq is None:
            return None
        start = int(series.start.astype("M8[us]").astype(np.int64))
        return _stamps_ahead(series.freq, start, len(series.target), self._horizon)

    def _future(self, series: FileSeries) -> NDArray[np.float32]:
        """Return ``(time + model horizon, num_future)``, NaN beyond the horizon asked for."""
        length, names = len(series.target), self._card.future_covariates
        for name in names:
            ahead = len(series.future_covariates[name]) - length
            if ahead < self._horizon:
                raise InvalidInputError(
                    f"column {name}: {self._horizon} rows after the last value are needed, and "
                    f"{ahead} are there"
                )
        told = _columns(series.future_covariates, names, length + self._horizon)
        rest = np.full((self._card.horizon - self._horizon, len(names)), np.nan, np.float32)
        return np.concatenate([told, rest])

    def _with_calendar(self, known: NDArray[np.float32], series: FileSeries) -> NDArray[np.float32]:
        """Append the calendar features of ``known`` ``(time + model horizon, num_future)``."""
        if self._calendar is None:
            return known
        if series.start is None:
            raise InvalidInputError("this model reads the calendar: time stamps are needed")
        first = len(series.target) + self._card.horizon - len(known)
        start = series.start.astype("M8[us]").item()
        return np.hstack([known, _calendar_columns(self._calendar, start, first, len(known))])


def _columns(
    values: Mapping[str, NDArray[np.float64]], names: Sequence[str], count: int
) -> NDArray[np.float32]:
    """Return ``(count, num_names)``."""
    table = np.empty((count, len(names)), np.float32)
    for index, name in enumerate(names):
        table[:, index] = values[name][:count]
    return table


@functools.lru_cache(maxsize=2**15)
def _stamps_ahead(freq: Frequency, start: int, first: int, count: int) -> Stamps:
    return grid_stamps(np.datetime64(start, "us"), freq, first + count)[first:]


@functools.lru_cache(maxsize=64)
def _calendar_columns(
    calendar: CalendarFeatures, start: dt.datetime, first: int, count: int
) -> NDArray[np.float32]:
    return calendar.compute(start, first, count)
