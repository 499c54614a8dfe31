"""Reading a long-format Parquet file that is larger than memory, a few items at a time.

All rows of an item must lie together; those of one item may come in any order.
"""

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

import polars as pl
import pyarrow as pa
from pyarrow import parquet

from app.errors import InvalidInputError
from app.files.cells import Zones, find_zones
from models.table import (
    Columns,
    check_rows,
    check_stamps,
    drop_zone,
    find_columns,
    has_zone,
    is_parquet,
    read_texts,
    to_arrow,
)

_BATCH_ROWS = 131_072
_BUFFER_BYTES = 2**20
_READ_AT_ONCE = 10_000_000
"""Rows of a file that is read at once, without a word of the user: some two gigabytes."""


def is_large(path: Path) -> bool:
    """Return whether a file is one to be streamed: Parquet of very many rows."""
    if not is_parquet(path):
        return False
    return int(_open(path).metadata.num_rows) > _READ_AT_ONCE


class ParquetStream:
    """A file that is gone through from its first row to its last, as often as need be.

    Attributes:
        num_rows: Rows of the file.
        ignored: Columns of the file that are not used.
        has_stamps: Whether time is a stamp; otherwise it is a plain integer step.
    """

    def __init__(
        self, path: Path, covariates: tuple[str, ...], categories: tuple[str, ...]
    ) -> None:
        if not is_parquet(path):
            raise InvalidInputError(f"{path.name} can not be streamed: only Parquet files can")
        self._path = path
        file = _open(path)
        self.num_rows = int(file.metadata.num_rows)
        if not self.num_rows:
            raise InvalidInputError(f"{path.name} has no rows")
        empty = _to_frame(file.schema_arrow.empty_table())
        self._columns = find_columns(empty.columns, path.name, covariates, categories)
        self.ignored = self._columns.list_ignored(empty.columns)
        time = empty[self._columns.timestamp]
        if time.dtype == pl.String:
            raise InvalidInputError(
                f"column {time.name} holds texts; to be streamed it must hold dates, times or "
                "integer steps"
            )
        self.has_stamps = not time.dtype.is_integer()
        self._has_zone = has_zone(time.dtype)

    def parts(self) -> Iterator[pl.DataFrame]:
        """Yield the rows of some items, all of each, with the columns of ``Table.frame``.

        Raises:
            InvalidInputError: A cell is wrong, or the rows of an item do not lie together.
        """
        return _whole_items(self._check(check_rows, self._columns.list_used()))

    def stamps(self) -> Iterator[pl.DataFrame]:
        """Yield ``row``, ``item_id`` and ``timestamp`` of the same parts."""
        names = [self._columns.item_id, self._columns.timestamp]
        return _whole_items(self._check(check_stamps, names))

    def texts(self, name: str, most: int) -> set[str]:
        """Return the different texts of a column, or some, if there are more than ``most``."""
        found: set[str] = set()
        for frame in self._read([name]):
            found.update(read_texts(frame[name]).drop_nulls().unique())
            if len(found) > most:
                break
        return found

    def _check(
        self, check: Callable[[pl.DataFrame, Columns, int], pl.DataFrame], names: list[str]
    ) -> Iterator[pl.DataFrame]:
        first_row = 1
        for raw in self._read(names):
            yield check(self._on_one_clock(raw), self._columns, first_row)
            first_row += raw.height

    def _on_one_clock(self, raw: pl.DataFrame) -> pl.DataFrame:
        """Drop the time zone as is right for the whole file, not for these rows alone."""
        if not self._has_zone:
            return raw
        return raw.with_columns(drop_zone(raw[self._columns.timestamp], in_utc=self._in_utc))

    @cached_property
    def _in_utc(self) -> bool:
        zones = Zones()
        for frame in self._read([self._columns.timestamp]):
            zones |= find_zones(to_arrow(frame[self._columns.timestamp]))
            if zones.in_utc:
                break
        return zones.in_utc

    def _read(self, names: list[str]) -> Iterator[pl.DataFrame]:
        """Read batches of rows; no more than a part of a row group is in memory."""
        try:
            batches = _open(self._path).iter_batches(_BATCH_ROWS, columns=names)
            yield from map(_to_frame, batches)
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(self._path, error) from error


def _open(path: Path) -> parquet.ParquetFile:
    try:
        return parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InvalidInputError:
    return InvalidInputError(f"{path} can not be read: {str(error).splitlines()[0]}")


def _to_frame(rows: "pa.Table | pa.RecordBatch") -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(rows))


def _whole_items(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Cut anew, so that no item is in two frames; a frame holds the last item of the one before."""
    seen: set[str] = set()
    held: list[pl.DataFrame] = []
    for frame in frames:
        begins = _list_begins(frame, held, seen)
        if begins and (begins[-1] or held):
            yield pl.concat([*held, frame[: begins[-1]]])
            held = []
        held.append(frame[begins[-1] :] if begins else frame)
    yield pl.concat(held)


def _list_begins(frame: pl.DataFrame, held: list[pl.DataFrame], seen: set[str]) -> list[int]:
    """Return the rows of ``frame`` where another item begins, each of which joins ``seen``."""
    names = frame["item_id"]
    before = held[-1]["item_id"][-1] if held else None
    is_other = names.ne_missing(names.shift(1, fill_value=before))
    begins = is_other.arg_true().to_list()
    for place in begins:
        name = names[place]
        if name in seen:
            raise InvalidInputError(
                f"row {frame['row'][place]}: item {name} comes again after other items; to be "
                "streamed, all rows of an item must lie together. Sort the file by item and time, "
                "for instance with DuckDB: COPY (FROM 'data.parquet' ORDER BY item_id, timestamp) "
                "TO 'sorted.parquet'; or read it at once: --no-stream"
            )
        seen.add(name)
    return begins
