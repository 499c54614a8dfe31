"""The series of a chunk as a model takes them, and the stamps of their forecasts."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from app.bulk.options import Aim
from app.errors import InvalidInputError
from app.files.series import FileSeries
from app.gateway.preparation import Row
from app.spacing import Stamps, shift_stamps

_LAST_STAMP = np.datetime64("9999-12-31T23:59:59", "us")


class RowMaker:
    """Turns series of one file into rows of one model."""

    def __init__(self, aim: Aim) -> None:
        self._card = aim.card
        self._calendar = aim.card.calendar
        self._horizon = aim.horizon

    def to_row(self, position: int, series: FileSeries) -> Row:
        """Return the row of a series, cut to the model's context.

        Raises:
            InvalidInputError: It has no values, or no stamps where the model reads the calendar.
        """
        length, kept = len(series.target), self._card.context_length
        if not length:
            raise InvalidInputError("no row of it has a value")
        past = _columns(series.past_covariates, self._card.past_covariates, length)
        return Row(
            position=position,
            target=series.target[-kept:].astype(np.float32),
            past_covariates=past[-kept:],
            future_covariates=self._future(series),
            static_covariates=np.array(
                [series.static_covariates[name] for name in self._card.static_covariates],
                np.float32,
            ),
            timestamps=None,
        )

    def stamps_ahead(self, series: Sequence[FileSeries]) -> Stamps | None:
        """Return the stamps of the steps ahead, ``(num_series, horizon)``.

        They are NaT where they would lie beyond the years that a stamp may have. There are none
        where time is a plain step.

        Args:
            series: Series of one file, none of them empty.
        """
        freq = series[0].freq if series else None
        if freq is None:
            return None
        starts = np.array([one.start for one in series], "M8[us]")
        lengths = np.array([len(one.target) for one in series], np.int64)
        ahead = lengths[:, np.newaxis] + np.arange(self._horizon)
        stamps = shift_stamps(starts[:, np.newaxis], freq, ahead)
        stamps[stamps[:, -1] > _LAST_STAMP] = np.datetime64("NaT")
        return stamps

    def _future(self, series: FileSeries) -> NDArray[np.float32]:
        """Return ``(kept + model horizon, num_future)``, NaN beyond the horizon asked for.

        Features of the calendar are the last columns.
        """
        length, names = len(series.target), self._card.future_covariates
        first = max(0, length - self._card.context_length)
        told = _columns(series.future_covariates, names, length + self._horizon)[first:]
        rest = np.full((self._card.horizon - self._horizon, len(names)), np.nan, np.float32)
        given = np.concatenate([told, rest])
        if self._calendar is None:
            return given
        if series.start is None:
            raise InvalidInputError("this model reads the calendar: time stamps are needed")
        start = series.start.astype("M8[us]").item()
        return np.hstack([given, self._calendar.compute(start, first, len(given))])


def _columns(
    values: Mapping[str, NDArray[np.float64]], names: Sequence[str], count: int
) -> NDArray[np.float32]:
    """Return ``(count, num_names)``."""
    table = np.empty((count, len(names)), np.float32)
    for index, name in enumerate(names):
        table[:, index] = values[name][:count]
    return table
