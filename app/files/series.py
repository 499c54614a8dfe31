"""From a file to regular series, with a report of what was understood.

As in training: rows may come in any order; a stamp that a series lacks becomes a missing value; a
row that repeats another one counts once, and two rows that tell different values for one item and
stamp are refused.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.calendar import Frequency
from app.errors import InvalidInputError, PayloadTooLargeError
from app.files.cells import Column, Times, has_decimal_commas, read_names, read_numbers, read_times
from app.files.columns import ColumnRoles, FoundColumns, find_columns
from app.files.reading import RawTable
from app.spacing import OFF_GRID, grid_positions, infer_frequency

MAX_NAME_LENGTH = 256

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FileSeries:
    """One series; its target is NaN where missing, and its first and last value are observed.

    Attributes:
        stamps: ``(time,)``, ``datetime64[us]``; None where time is a plain step.
        num_gaps: Steps that have no row in the file.
    """

    item_id: str | None
    target: FloatArray
    stamps: NDArray[np.datetime64] | None
    num_gaps: int


@dataclass(frozen=True, kw_only=True, slots=True)
class FileContent:
    """What a file says.

    Attributes:
        freq: Canonical alias; None where time is a plain step.
        without_values: Items left out because no row has a target.
    """

    series: tuple[FileSeries, ...]
    columns: FoundColumns
    freq: str | None
    num_rows: int
    num_repeated: int
    without_values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows in order of item and time; ``number`` is that of the row in the file."""

    item: NDArray[np.int64]
    time: Times
    target: FloatArray
    number: NDArray[np.int64]


def read_series(
    raw: RawTable, roles: ColumnRoles, freq: str | None, *, max_steps: int
) -> FileContent:
    """Find the columns, check every cell and lay each series on its grid.

    Raises:
        InvalidInputError: A column or a cell is wrong; the message names both.
        PayloadTooLargeError: With gaps filled there are more than ``max_steps`` values.
    """
    columns = find_columns(raw.table, roles)
    rows, names = _read_rows(raw, columns)
    if np.isnan(rows.target).all():
        raise InvalidInputError(f"column {columns.target} holds no number")
    rows, num_repeated = _drop_repeated(rows, names)
    bounds = np.flatnonzero(np.diff(rows.item, prepend=-1, append=len(names)))
    parts = [slice(*pair) for pair in itertools.pairwise(bounds)]
    has_stamps = columns.timestamp is not None and rows.time.dtype.kind == "M"
    frequency = _find_frequency(rows, parts, freq) if has_stamps else None
    positions = [_place(rows, part, frequency, columns) for part in parts]
    num_steps = sum(int(steps[-1]) + 1 for steps in positions)
    if num_steps > max_steps:
        raise PayloadTooLargeError(
            f"with gaps filled there are {num_steps} values, more than {max_steps}: is one of the "
            "time stamps wrong?"
        )
    found = [
        _to_series(rows, part, steps, names[index] if names else None, frequency)
        for index, (part, steps) in enumerate(zip(parts, positions, strict=True))
    ]
    return FileContent(
        series=tuple(one for one in found if len(one.target)),
        columns=columns,
        freq=frequency.alias if frequency else None,
        num_rows=raw.table.num_rows,
        num_repeated=num_repeated,
        without_values=tuple(str(one.item_id) for one in found if not len(one.target)),
    )


def _read_rows(raw: RawTable, columns: FoundColumns) -> tuple[_Rows, list[str]]:
    def column(name: str) -> Column:
        return Column(name, raw.table[name], raw.first_row)

    count = raw.table.num_rows
    item, names = np.zeros(count, np.int64), [""]
    if columns.item_id is not None:
        item, names = read_names(column(columns.item_id), max_length=MAX_NAME_LENGTH)
    time: Times = np.arange(count)
    if columns.timestamp is not None:
        time = read_times(column(columns.timestamp))
    comma = raw.separator != "," and has_decimal_commas(raw.table[columns.target])
    target = read_numbers(column(columns.target), decimal_comma=comma)
    order = np.lexsort((time, item))
    number = raw.first_row + order
    return _Rows(item[order], time[order], target[order], number), names


def _drop_repeated(rows: _Rows, names: list[str]) -> tuple[_Rows, int]:
    repeats = np.zeros(len(rows.item), np.bool_)
    repeats[1:] = (rows.item[1:] == rows.item[:-1]) & (rows.time[1:] == rows.time[:-1])
    for index in np.flatnonzero(repeats):
        if not np.array_equal(rows.target[index - 1], rows.target[index], equal_nan=True):
            about = f" of item {names[rows.item[index]]}" if names[rows.item[index]] else ""
            raise InvalidInputError(
                f"rows {rows.number[index - 1]} and {rows.number[index]} give different values for "
                f"{rows.time[index]}{about}: one row per item and time stamp is needed"
            )
    kept = ~repeats
    return _Rows(*(getattr(rows, n)[kept] for n in _Rows.__slots__)), int(repeats.sum())


def _find_frequency(rows: _Rows, parts: list[slice], freq: str | None) -> Frequency:
    if freq is not None:
        return Frequency.parse(freq)
    return infer_frequency([rows.time[part].astype("M8[us]") for part in parts])


def _place(
    rows: _Rows, part: slice, frequency: Frequency | None, columns: FoundColumns
) -> NDArray[np.int64]:
    """Return the step of each row, counted from the first; without a frequency, time is it."""
    if frequency is None:
        plain = rows.time[part].astype(np.int64)
        return np.asarray(plain - plain[0])
    steps = grid_positions(rows.time[part].astype("M8[us]"), frequency)
    wrong = np.flatnonzero((steps == OFF_GRID) | (np.diff(steps, prepend=-1) == 0))
    if wrong.size:
        index = part.start + int(wrong[0])
        raise InvalidInputError(
            f"column {columns.timestamp}, row {rows.number[index]}: {rows.time[index]} is not a "
            f"whole number of {frequency.alias} steps after the first one of its series"
        )
    return steps


def _to_series(
    rows: _Rows, part: slice, steps: NDArray[np.int64], item_id: str | None, freq: Frequency | None
) -> FileSeries:
    values = rows.target[part]
    known = np.flatnonzero(~np.isnan(values))
    if not known.size:
        return FileSeries(item_id or None, values[:0], None, 0)
    first, last = int(known[0]), int(known[-1])
    grid = steps[first : last + 1] - steps[first]
    target = np.full(int(grid[-1]) + 1, np.nan)
    target[grid] = values[first : last + 1]
    stamps = None
    if freq is not None:
        start = rows.time[part][first].astype("M8[us]").item()
        stamps = np.array(freq.stamps(start, 0, len(target)), "M8[us]")
    return FileSeries(item_id or None, target, stamps, len(target) - len(grid))
