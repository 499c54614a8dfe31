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
from app.spacing import OFF_GRID, grid_positions, grid_stamps, is_month_end

FloatArray = NDArray[np.float64]
Values = Mapping[str, FloatArray]

_MOST_FILLED = 10
"""Steps for a row, beyond which many covariates make a few rows of a file large."""

_COUNTED_IN_MONTHS = frozenset({"M", "Q", "Y"})


@dataclass(frozen=True, kw_only=True, slots=True)
class FileSeries:
    """One series.

    Attributes:
        target: ``(time,)``, NaN where missing; its last value is observed, and its first one, but
            for the few steps back to an anchor. Empty where no row has a value.
        start: Stamp of the first value, an anchor: all stamps can be counted from it alone. None
            where time is a plain step.
        num_gaps: Steps that have no row in the file.
        num_repeated: Rows that repeat another one and count once.
        past_covariates: ``(time,)`` by name.
        future_covariates: ``(time + ahead,)`` by name, as far ahead as the file has rows, which is
            at least ``Covariates.num_ahead`` steps.
        static_covariates: By name, NaN where no row tells it; a category is its place among those
            that are known, from 1.
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
        return _stamp_at(step, self.start, self.freq)

    def anchor_before(self, step: int) -> int:
        """Return the last step, up to ``step``, from whose stamp later ones can be counted."""
        return _anchor_before(step, self.start, self.freq)


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
            elif self._is_too_long(steps := group.steps[part]):
                yield RefusedSeries(name, self._too_long(steps))
            else:
                series = self._to_series(group, item, part)
                yield self._refuse_short_future(series) or series

    def _is_too_long(self, steps: NDArray[np.int64]) -> bool:
        """Whether a series is too long, or would be mostly gaps in many columns."""
        num_steps, most = int(steps[-1]) + 1, self._limits.max_series_steps
        is_sparse = num_steps > _MOST_FILLED * len(steps)
        return num_steps > most or (is_sparse and self._count_values(steps) > most)

    def _too_long(self, steps: NDArray[np.int64]) -> PayloadTooLargeError:
        return PayloadTooLargeError(
            f"with gaps filled there are {self._count_values(steps)} values, more than "
            f"{self._limits.max_series_steps}: is one of the time stamps wrong?"
        )

    def _count_values(self, steps: NDArray[np.int64]) -> int:
        return (int(steps[-1]) + 1) * (1 + len(self._layout.covariates.names))

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
        origin = np.datetime64(int(rows.time[part.start]), "us")
        begin = _anchor_before(int(group.steps[part][known[0]]), origin, self._frequency)
        first = part.start + int(np.searchsorted(group.steps[part], begin))
        last = part.start + int(known[-1])
        steps = group.steps[first : part.stop] - begin
        length = int(steps[last - first]) + 1
        kinds = self._layout.covariates
        tables = _on_grid(rows.covariates[first : part.stop], steps) if kinds.names else None
        return FileSeries(
            item_id=name,
            target=_on_grid(rows.target[first : last + 1], steps[: last - first + 1]),
            start=_stamp_at(begin, origin, self._frequency) if self._frequency else None,
            freq=self._frequency,
            num_gaps=length - (last - first + 1),
            num_repeated=repeated,
            past_covariates=_columns(tables, kinds.past, 0, length),
            future_covariates=_columns(tables, kinds.future, len(kinds.past), None),
            static_covariates=group.static_values(part),
        )


def _anchor_before(step: int, start: np.datetime64 | None, frequency: Frequency | None) -> int:
    """Return the last step, up to ``step``, from whose stamp later ones can be counted.

    Counting from the last day of a month gives last days alone, and February has no other one for a
    series on the 30th. There is such a step: the first one, if no other.
    """
    if start is None or frequency is None or frequency.unit not in _COUNTED_IN_MONTHS:
        return step
    is_end = is_month_end(start)
    while step and is_month_end(_stamp_at(step, start, frequency)) != is_end:
        step -= 1
    return step


def _stamp_at(step: int, start: np.datetime64, frequency: Frequency) -> np.datetime64:
    return np.datetime64(frequency.shift(start.astype("M8[us]").item(), step), "us")


def _on_grid(values: FloatArray, steps: NDArray[np.int64]) -> FloatArray:
    """Put values at their steps, NaN at all others up to the last one."""
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
        return {name: float(cells[firsts[i], i]) for i, name in enumerate(names)}

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
                shown = self._show(name, float(cells[index]))
                self.refusals.setdefault(
                    item,
                    f"column {name}, row {self.rows.number[index]}: {shown} is another value than "
                    f"item {self.names[item]} has before: it must be constant",
                )

    def _show(self, name: str, number: float) -> str:
        value = self._layout.covariates.value_of(name, number)
        return f"{value:g}" if isinstance(value, float) else repr(value or "an unknown category")


def _repeats(rows: Rows) -> NDArray[np.bool_]:
    repeats = np.zeros(len(rows), np.bool_)
    repeats[1:] = (rows.item[1:] == rows.item[:-1]) & (rows.time[1:] == rows.time[:-1])
    return repeats
