"""The first pass over a file: how it is to be read, and what must be known before a series is."""

# pyarrow.compute makes its functions when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from app.arrow import pa, pc
from app.calendar import Frequency
from app.errors import InvalidInputError
from app.files.cells import Zones, find_zones, has_steps, naming_column
from app.files.columns import ColumnRoles, Covariates, find_columns
from app.files.raw import FileLimits, RawFile, check_num_rows
from app.files.rows import Layout, RowReader, Rows, Steps, hash_names, join_rows
from app.files.series import raise_conflicts
from app.spacing import infer_frequency

_MOST_RUNS = 2**22
_SAMPLED_ITEMS = 1000
_SAMPLED_STAMPS = 2**18


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """What a pass over all rows tells.

    Attributes:
        freq: Spacing of the stamps; None where time is a plain step.
        num_rows: Rows of the file.
        rows: All of them, where they are few enough to be kept.
        is_contiguous: Whether the rows of each item follow each other.
        num_items: Items of the file; None where telling would take another pass.
    """

    layout: Layout
    freq: Frequency | None
    num_rows: int
    rows: tuple[Rows, ...] | None
    is_contiguous: bool
    num_items: int | None


def find_layout(file: RawFile, roles: ColumnRoles, covariates: Covariates) -> Layout:
    """Find out from the beginning of a file what its columns are.

    Raises:
        InvalidInputError: A column is missing, or the file has no rows.
        GatecastError: As ``RawFile.pieces``.
    """
    table = next((piece.table for piece in file.pieces() if piece.table.num_rows), None)
    if table is None:
        raise InvalidInputError("the file has no rows")
    columns = find_columns(table, roles, covariates, names=file.column_names)
    timestamp = columns.timestamp
    has_stamps = timestamp is not None and not _has_steps(table, timestamp)
    return Layout(columns=columns, covariates=covariates, has_stamps=has_stamps, in_utc=False)


def _has_steps(table: pa.Table, timestamp: str) -> bool:
    if timestamp not in table.column_names:  # its cells can not be read: the next pass refuses it
        return False
    with naming_column(timestamp):
        return has_steps(table[timestamp])


def survey_file(
    file: RawFile, layout: Layout, freq: str | None, *, limits: FileLimits, keeps_complaints: bool
) -> Survey:
    """Read all rows once.

    Raises:
        InvalidInputError: The file has no number, its stamps follow no grid, only some of them have
            a time zone, or a cell is wrong and complaints are not kept.
        PayloadTooLargeError: The file has too many rows.
        GatecastError: As ``RawFile.pieces``.
    """
    surveyor = _Surveyor(layout, limits, has_freq=freq is not None)
    surveyor.read(file, keeps_complaints=keeps_complaints)
    if surveyor.zones.in_utc:
        layout = replace(layout, in_utc=True)
        surveyor = _Surveyor(layout, limits, has_freq=freq is not None)
        surveyor.read(file, keeps_complaints=keeps_complaints)
    return surveyor.conclude(freq)


class _Surveyor:
    def __init__(self, layout: Layout, limits: FileLimits, *, has_freq: bool) -> None:
        self._layout = layout
        self._limits = limits
        self._sample = _StampSample() if layout.has_stamps and not has_freq else None
        self._runs = _Runs()
        self._rows: list[Rows] | None = []
        self._num_rows = 0
        self._has_numbers = False
        self.zones = Zones()

    def read(self, file: RawFile, *, keeps_complaints: bool) -> None:
        timestamp = self._layout.columns.timestamp
        reader = RowReader(self._layout, file.separator, keeps_complaints=keeps_complaints)
        for piece in file.pieces(self._layout.names):
            self._num_rows += piece.table.num_rows
            check_num_rows(self._num_rows, self._limits)
            self._add(reader.read(piece))
            if timestamp is not None and self._layout.has_stamps:
                with naming_column(timestamp):
                    self.zones |= find_zones(piece.table[timestamp])
        if self.zones.are_mixed:
            raise InvalidInputError(
                f"column {timestamp}: some stamps have a time zone, others none"
            )

    def _add(self, rows: Rows) -> None:
        if not len(rows):
            return
        self._has_numbers = self._has_numbers or not np.isnan(rows.target).all()
        self._runs.add(rows)
        if self._sample is not None:
            self._sample.add(rows)
        if not self._limits.keeps(self._num_rows, len(self._layout.covariates.names)):
            self._rows = None
        if self._rows is not None:
            self._rows.append(rows)

    def _infer(self) -> Frequency | None:
        try:
            return self._sample.infer() if self._sample else None
        except InvalidInputError:
            if self._rows is not None:  # what is wrong with the stamps may be said more exactly
                raise_conflicts(join_rows(self._rows), self._layout)
            raise

    def conclude(self, freq: str | None) -> Survey:
        if not self._has_numbers:
            raise InvalidInputError(f"column {self._layout.columns.target} holds no number")
        is_contiguous = self._runs.are_distinct()
        frequency = Frequency.parse(freq) if freq is not None and self._layout.has_stamps else None
        return Survey(
            layout=self._layout,
            freq=self._infer() if self._sample else frequency,
            num_rows=self._num_rows,
            rows=None if self._rows is None else tuple(self._rows),
            is_contiguous=is_contiguous,
            num_items=self._runs.count() if is_contiguous else self._count_kept_items(),
        )

    def _count_kept_items(self) -> int | None:
        if self._rows is None:
            return None
        used = [rows.names.take(pa.array(np.unique(rows.item))) for rows in self._rows]
        return len(pa.concat_arrays(used).unique())


class _Runs:
    """Runs of rows of one item; where no item has two, the file need not be put in order."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._runs: list[NDArray[np.uint64]] = []
        self._num_runs = 0
        self._is_open = True

    def add(self, rows: Rows) -> None:
        if not self._is_open:
            return
        starts = np.flatnonzero(np.diff(rows.item, prepend=-1))
        # Two names of one number, if that ever happens, cost a detour over the disk alone.
        runs = hash_names(rows.names)[rows.item[starts]]
        self._is_open = _are_distinct(runs)
        last, goes_on = int(runs[-1]), int(runs[0]) == self._last
        self._runs.append(runs[1:] if goes_on else runs)
        self._last = last
        self._num_runs += len(runs)
        self._is_open = self._is_open and self._num_runs <= _MOST_RUNS
        if not self._is_open:
            self._runs.clear()

    def are_distinct(self) -> bool:
        """Whether each item had one run; runs without end are not remembered."""
        return self._is_open and _are_distinct(np.concatenate(self._runs))

    def count(self) -> int:
        """Return how many there are."""
        return sum(map(len, self._runs))


def _are_distinct(numbers: NDArray[np.uint64]) -> bool:
    return len(np.unique(numbers)) == len(numbers)


class _StampSample:
    """The stamps of the first items, by which the frequency is inferred."""

    def __init__(self) -> None:
        self._names = pa.array([], pa.string())
        self._stamps: list[list[Steps]] = []
        self._num_stamps = 0

    def add(self, rows: Rows) -> None:
        if self._num_stamps >= _SAMPLED_STAMPS:
            return
        self._take_names(rows.names)
        places = pc.fill_null(pc.index_in(rows.names, self._names), -1).to_numpy()[rows.item]
        places[list(rows.complaints)] = -1
        chosen = np.flatnonzero(places >= 0)
        chosen = chosen[np.argsort(places[chosen], kind="stable")]
        starts = np.flatnonzero(np.diff(places[chosen], prepend=-1))
        for part in np.split(chosen, starts[1:]) if chosen.size else ():
            self._stamps[int(places[part[0]])].append(rows.time[part])
        self._num_stamps += chosen.size

    def _take_names(self, names: pa.StringArray) -> None:
        if len(self._names) < _SAMPLED_ITEMS:
            known = pa.concat_arrays([self._names, names[:_SAMPLED_ITEMS]]).unique()
            self._names = known[:_SAMPLED_ITEMS]
            self._stamps += [[] for _ in range(len(self._names) - len(self._stamps))]

    def infer(self) -> Frequency:
        several = [np.unique(np.concatenate(parts)) for parts in self._stamps if parts]
        return infer_frequency([stamps.view("M8[us]") for stamps in several])
