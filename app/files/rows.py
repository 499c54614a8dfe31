"""Rows of a file as arrays, in the order of the file; pieces of raw cells become pieces of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from app.arrow import pa
from app.files.cells import (
    Column,
    finds_decimal_commas,
    naming_column,
    read_categories,
    read_names,
    read_numbers,
    read_stamps,
    read_steps,
)
from app.files.columns import Covariates, FoundColumns
from app.files.raw import RawPiece

MAX_NAME_LENGTH = 256

Steps = NDArray[np.int64]

_BYTES_A_CHARACTER = 4
_POWERS = np.uint64(0x9E3779B97F4A7C15) ** np.arange(
    MAX_NAME_LENGTH * _BYTES_A_CHARACTER, dtype=np.uint64
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """What is in which column of a file, and how it is to be read.

    Attributes:
        has_stamps: Whether time is in stamps; plain steps if not.
        in_utc: Whether stamps are turned to UTC, see ``Zones``; if not, the wall time counts.
    """

    columns: FoundColumns
    covariates: Covariates
    has_stamps: bool
    in_utc: bool

    @property
    def names(self) -> list[str]:
        """The columns that are read."""
        columns = self.columns
        roles = (columns.item_id, columns.timestamp, columns.target)
        return [name for name in roles if name is not None] + list(self.covariates.names)


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows.

    Attributes:
        names: Items in order of appearance; an empty name is that of rows without one. Arrow's,
            since a piece may have as many of them as rows.
        item: ``(rows,)``, positions in ``names``.
        time: ``(rows,)``, microseconds since 1970, or plain steps.
        target: ``(rows,)``, NaN where missing.
        covariates: ``(rows, covariates)``, in the order of ``Covariates.names``.
        number: ``(rows,)``, as ``RawPiece`` counts them.
        complaints: What is wrong with a row, by its position.
    """

    names: pa.StringArray
    item: NDArray[np.int64]
    time: NDArray[np.int64]
    target: NDArray[np.float64]
    covariates: NDArray[np.float64]
    number: NDArray[np.int64]
    complaints: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.item)

    def part(self, start: int, stop: int) -> Rows:
        """Return the rows from ``start`` to before ``stop``; ``names`` stays whole."""
        told = {row - start: text for row, text in self.complaints.items() if start <= row < stop}
        return replace(self.take(slice(start, stop)), complaints=told)

    def take(self, which: slice | Steps) -> Rows:
        """Return some rows without the complaints; ``names`` stays whole."""
        return Rows(
            self.names,
            self.item[which],
            self.time[which],
            self.target[which],
            self.covariates[which],
            self.number[which],
        )


def join_rows(parts: Sequence[Rows]) -> Rows:
    """Put pieces of rows together."""
    if len(parts) == 1:
        return parts[0]
    names = pa.concat_arrays([part.names for part in parts]).dictionary_encode()
    positions = names.indices.to_numpy().astype(np.int64)
    items: list[Steps] = []
    complaints: dict[int, str] = {}
    num_rows = num_names = 0
    for part in parts:
        items.append(positions[num_names + part.item])
        complaints |= {num_rows + row: text for row, text in part.complaints.items()}
        num_rows, num_names = num_rows + len(part), num_names + len(part.names)
    return Rows(
        names.dictionary,
        np.concatenate(items),
        np.concatenate([part.time for part in parts]),
        np.concatenate([part.target for part in parts]),
        np.concatenate([part.covariates for part in parts]),
        np.concatenate([part.number for part in parts]),
        complaints,
    )


def hash_names(names: pa.StringArray) -> NDArray[np.uint64]:
    """Return a number for each name, which depends on the name alone: a polynomial of its bytes."""
    _, offsets, content = names.buffers()
    ends = np.frombuffer(offsets, np.int32)[names.offset :][: len(names) + 1].astype(np.int64)
    data = np.frombuffer(content or b"", np.uint8)[ends[0] : ends[-1]].astype(np.uint64)
    starts, lengths = ends[:-1] - ends[0], np.diff(ends)
    place = np.arange(len(data)) - np.repeat(starts, lengths)
    terms = np.append((data + np.uint64(1)) * _POWERS[place], np.uint64(0))
    sums = np.where(lengths > 0, np.add.reduceat(terms, starts), np.uint64(0))
    return np.asarray(sums ^ (sums >> np.uint64(29)), np.uint64)


class RowReader:
    """Reads the pieces of one pass over a file, in their order.

    Whether decimals have commas is decided by the first piece that has decimals.
    """

    def __init__(self, layout: Layout, separator: str | None, *, keeps_complaints: bool) -> None:
        self._layout = layout
        self._keeps_complaints = keeps_complaints
        no_commas = separator == ","
        names = (layout.columns.target, *layout.covariates.names)
        self._commas: dict[str, bool | None] = dict.fromkeys(names, False if no_commas else None)

    def read(self, piece: RawPiece) -> Rows:
        """Read a piece.

        Raises:
            InvalidInputError: A column is of a wrong kind, or a cell is wrong and complaints are
                not kept.
        """
        complaints: dict[int, str] | None = {} if self._keeps_complaints else None
        table, columns, count = piece.table, self._layout.columns, piece.table.num_rows

        def column(name: str) -> Column:
            return Column(name, table[name], piece.first_row, complaints)

        item, names = np.zeros(count, np.int64), pa.array([""])
        if columns.item_id is not None:
            with naming_column(columns.item_id):
                item, names = read_names(column(columns.item_id), max_length=MAX_NAME_LENGTH)
        number = piece.first_row + np.arange(count)
        time = number
        if columns.timestamp is not None:
            time = self._read_times(column(columns.timestamp))
        target = self._read_numbers(column(columns.target))
        covariates = [self._read_covariate(column(n)) for n in self._layout.covariates.names]
        matrix = np.column_stack(covariates) if covariates else np.empty((count, 0))
        return Rows(names, item, time, target, matrix, number, complaints or {})

    def _read_times(self, column: Column) -> NDArray[np.int64]:
        with naming_column(column.name):
            if not self._layout.has_stamps:
                return read_steps(column)
            return read_stamps(column, in_utc=self._layout.in_utc).view(np.int64)

    def _read_covariate(self, column: Column) -> NDArray[np.float64]:
        known = self._layout.covariates.categories.get(column.name)
        if known is None:
            return self._read_numbers(column)
        with naming_column(column.name):
            return read_categories(column, known)

    def _read_numbers(self, column: Column) -> NDArray[np.float64]:
        with naming_column(column.name):
            if self._commas[column.name] is None:
                self._commas[column.name] = finds_decimal_commas(column.cells)
            return read_numbers(column, decimal_comma=bool(self._commas[column.name]))
