"""From rows to regular series.

As in training: rows may come in any order; a stamp that a series lacks becomes a missing value; a
row that repeats another one counts once, and two rows that tell different values for one item and
stamp are refused. Rows after the last target value are the future: their covariates are kept.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from app.calendar import Frequency
from app.errors import InvalidInputError, PayloadTooLargeError
from app.files.raw import FileLimits
from app.files.rows import Layout, Rows
from app.spacing import OFF_GRID, grid_positions, grid_stamps

FloatArray = NDArray[np.float64]
Values = Mapping[str, FloatArray]


@dataclass(frozen=True, kw_only=True, slots=True)
class FileSeries:
    """One series.

    Attributes:
        target: ``(time,)``, NaN where missing; its first and its last value are observed. Empty
            where no row has a value.
        start: Stamp of the first value; None where time is a plain step.
        num_gaps: Steps that have no row in the file.
        num_repeated: Rows that repeat another one and count once.
        past_covariates: ``(time,)`` by name.
        future_covariates: ``(time + ahead,)`` by name, as far ahead as the file has rows, which is
            at least ``Covariates.num_ahead`` steps.
        static_covariates: By name, NaN where no row tells it; a category as its place among the
            known ones, from 1, or 0.
    """

    item_id: str | None
    target: FloatArray
    start: np.datetime64 | None
    freq: Frequency | None
    num_gaps: int = 0
    num_repeated: int = 0
    past_covariates: Values = field(default_factory=dict)
    future_covariates: Values = field(default_factory=dict)
    static_covariates: Mapping[str, float] = field(default_factory=dict)

    @property
    def stamps(self) -> NDArray[np.datetime64] | None:
        """``(time,)``, ``datetime64[us]``; None where time is a plain step."""
        if self.start is None or self.freq is None:
            return None
        return grid_stamps(self.start, self.freq, len(self.target))

    def stamp_at(self, step: int) -> np.datetime64 | None:
        """Return the stamp of one value."""
        if self.start is None or self.freq is None:
            return None
        return np.datetime64(self.freq.shift(self.start.astype("M8[us]").item(), step), "us")


@dataclass(frozen=True, slots=True)
class RefusedSeries:
    """A series with something wrong in it."""

    item_id: str | None
    error: InvalidInputError | PayloadTooLargeError

    @property
    def reason(self) -> str:
        """What is wrong, with the column and the row."""
        return str(self.error)


class SeriesBuilder:
    """Lays the rows of whole series on their grids."""

    def __init__(self, layout: Layout, frequency: Frequency | None, limits: FileLimits) -> None:
        self._layout = layout
        self._frequency = frequency
        self._limits = limits

    def build(self, rows: Rows) -> Iterator[FileSeries | RefusedSeries]:
        """Return each series of ``rows``, in the order in which their items appear."""
        group = _Group(rows, self._layout, self._frequency)
        for item, part in group.parts():
            name = group.names[item] or None
            if item in group.refusals:
                yield RefusedSeries(name, InvalidInputError(group.refusals[item]))
            elif (num_steps := int(group.steps[part.stop - 1]) + 1) > self._limits.max_series_steps:
                yield RefusedSeries(name, self._too_long(num_steps))
            else:
                series = self._to_series(group, item, part)
                yield self._refuse_short_future(series) or series

    def _too_long(self, num_steps: int) -> PayloadTooLargeError:
        return PayloadTooLargeError(
            f"with gaps filled there are {num_steps} values, more than "
            f"{self._limits.max_series_steps}: is one of the time stamps wrong?"
        )

    def _refuse_short_future(self, series: FileSeries) -> RefusedSeries | None:
        wanted = self._layout.covariates.num_ahead
        for name, values in series.future_covariates.items():
            if (found := len(values) - len(series.target)) < wanted:
                about = f" of item {series.item_id}" if series.item_id else ""
                return RefusedSeries(
                    series.item_id,
                    InvalidInputError(
                        f"column {name} must tell {wanted} steps after the last value of "
                        f"{self._layout.columns.target}{about}: rows with an empty "
                        f"{self._layout.columns.target}; {found} are there"
                    ),
                )
        return None

    def _to_series(self, group: "_Group", item: int, part: slice) -> FileSeries:
        rows, name = group.rows, group.names[item] or None
        repeated = int(group.num_repeated[item])
        known = np.flatnonzero(group.is_known[part])
        if not known.size:
            return FileSeries(
                item_id=name, target=np.empty(0), start=None, freq=None, num_repeated=repeated
            )
        first, last = part.start + int(known[0]), part.start + int(known[-1])
        steps = group.steps[first : part.stop] - group.steps[first]
        length = int(steps[last - first]) + 1
        kinds = self._layout.covariates
        tables = _on_grid(rows.covariates[first : part.stop], steps) if kinds.names else None
        return FileSeries(
            item_id=name,
            target=_on_grid(rows.target[first : last + 1], steps[: last - first + 1]),
            start=np.datetime64(int(rows.time[first]), "us") if self._frequency else None,
            freq=self._frequency,
            num_gaps=length - (last - first + 1),
            num_repeated=repeated,
            past_covariates=_columns(tables, kinds.past, 0, length),
            future_covariates=_columns(tables, kinds.future, len(kinds.past), None),
            static_covariates=group.static_values(part),
        )


def _on_grid(values: FloatArray, steps: NDArray[np.int64]) -> FloatArray:
    """Put values at their steps, NaN in between; the steps begin at 0."""
    if len(values) == int(steps[-1]) + 1:
        return values.copy()  # so that a series that is kept does not keep all rows
    table = np.full((int(steps[-1]) + 1, *values.shape[1:]), np.nan)
    table[steps] = values
    return table


def _columns(
    table: FloatArray | None, names: tuple[str, ...], first: int, length: int | None
) -> Values:
    if table is None:
        return {}
    return {name: table[:length, first + index] for index, name in enumerate(names)}


def raise_conflicts(rows: Rows, layout: Layout) -> None:
    """Check what can be checked of the rows of whole series before their frequency is known.

    Raises:
        InvalidInputError: Two rows of one item and stamp differ.
    """
    for refusal in _Group(rows, layout, None).refusals.values():
        raise InvalidInputError(refusal)


class _Group:
    """Rows in order of item and time, each once, with their steps and what is wrong with them."""

    def __init__(self, rows: Rows, layout: Layout, frequency: Frequency | None) -> None:
        self._layout = layout
        self.names: list[str] = rows.names.to_pylist()
        self.refusals: dict[int, str] = {}
        for row, complaint in sorted(rows.complaints.items()):
            self.refusals.setdefault(int(rows.item[row]), complaint)
        ordered = rows.take(np.lexsort((rows.time, rows.item)))
        repeats = _repeats(ordered)
        self._refuse_conflicts(ordered, repeats)
        self.num_repeated = np.bincount(ordered.item[repeats], minlength=len(rows.names))
        self.rows = ordered.take(np.flatnonzero(~repeats)) if repeats.any() else ordered
        self.is_known = ~np.isnan(self.rows.target)
        self._starts = np.flatnonzero(np.diff(self.rows.item, prepend=-1))
        self.steps = self._place(frequency)
        self._refuse_changing_statics()

    def parts(self) -> Iterator[tuple[int, slice]]:
        """Return each item with its rows."""
        stops = [*self._starts[1:].tolist(), len(self.rows)]
        items = self.rows.item[self._starts].tolist()
        for item, start, stop in zip(items, self._starts.tolist(), stops, strict=True):
            yield item, slice(start, stop)

    def static_values(self, part: slice) -> dict[str, float]:
        """Return the first value that a row of the item tells."""
        names = self._layout.covariates.static
        if not names:
            return {}
        cells = self.rows.covariates[part, self._first_static :]
        firsts = np.argmax(~np.isnan(cells), axis=0)
        values = {name: float(cells[firsts[i], i]) for i, name in enumerate(names)}
        unknown = {n for n in self._layout.covariates.categories if np.isnan(values[n])}
        return values | dict.fromkeys(unknown, 0.0)

    @property
    def _first_static(self) -> int:
        return len(self._layout.covariates.names) - len(self._layout.covariates.static)

    def _place(self, frequency: Frequency | None) -> NDArray[np.int64]:
        """Return the step of each row, counted from the first of its item."""
        rows = self.rows
        lengths = np.diff(self._starts, append=len(rows))
        origins = np.repeat(rows.time[self._starts], lengths)
        if frequency is None:
            return rows.time - origins
        times = rows.time.view("M8[us]")
        steps = grid_positions(times, frequency, origins.view("M8[us]"))
        is_wrong = steps == OFF_GRID
        is_wrong[1:] |= (np.diff(steps) == 0) & (np.diff(rows.item) == 0)
        for index in np.flatnonzero(is_wrong).tolist():
            self.refusals.setdefault(
                int(rows.item[index]),
                f"column {self._layout.columns.timestamp}, row {rows.number[index]}: "
                f"{times[index]} is not a whole number of {frequency.alias} steps after the first "
                "one of its series",
            )
        return steps

    def _refuse_conflicts(self, rows: Rows, repeats: NDArray[np.bool_]) -> None:
        for index in np.flatnonzero(repeats).tolist():
            pair = [index - 1, index]
            cells = np.column_stack((rows.target[pair], rows.covariates[pair]))
            if np.array_equal(cells[0], cells[1], equal_nan=True):
                continue
            item = int(rows.item[index])
            time = rows.time[index].view("M8[us]") if self._layout.has_stamps else rows.time[index]
            about = f" of item {self.names[item]}" if self.names[item] else ""
            self.refusals.setdefault(
                item,
                f"rows {rows.number[index - 1]} and {rows.number[index]} give different values for "
                f"{time}{about}: one row per item and time stamp is needed",
            )

    def _refuse_changing_statics(self) -> None:
        for offset, name in enumerate(self._layout.covariates.static):
            cells = self.rows.covariates[:, self._first_static + offset]
            told = np.flatnonzero(~np.isnan(cells))
            same_item = np.diff(self.rows.item[told]) == 0
            changes = told[1:][same_item & (np.diff(cells[told]) != 0)]
            for index in changes.tolist():
                item = int(self.rows.item[index])
                self.refusals.setdefault(
                    item,
                    f"column {name}, row {self.rows.number[index]}: {cells[index]:g} is another "
                    f"value than item {self.names[item]} has before: it must be constant",
                )


def _repeats(rows: Rows) -> NDArray[np.bool_]:
    repeats = np.zeros(len(rows), np.bool_)
    repeats[1:] = (rows.item[1:] == rows.item[:-1]) & (rows.time[1:] == rows.time[:-1])
    return repeats
