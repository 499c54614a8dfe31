"""The forecasts of a bulk run as one file, written from the journal piece by piece.

The same chunks give the same bytes. A file appears under its name when it is whole, never before.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, Protocol

import numpy as np
import orjson
from typing_extensions import override

from app.arrow import pa, pa_csv, pa_parquet
from app.bulk.tables import decode_rows
from app.errors import BulkRunError, InvalidInputError

_ROWS_OF_A_GROUP = 131_072


class _Writer(Protocol):
    """Writes tables of one schema to an open file."""

    @abstractmethod
    def write(self, table: pa.Table) -> None:
        """Write some series, whole ones."""

    @abstractmethod
    def finish(self) -> None:
        """Write the end."""


def check_suffix(path: Path) -> None:
    """Check that the name of an output says which format it is to have.

    Raises:
        InvalidInputError: It does not.
    """
    if path.suffix.lower() not in _WRITERS:
        known = ", ".join(_WRITERS)
        raise InvalidInputError(f"the name of {path.name} must end in one of {known}")


def write_forecasts(
    path: Path, parts: Iterable[bytes], schema: pa.Schema, *, horizon: int, has_times: bool
) -> None:
    """Put the rows of all chunks into one file.

    Args:
        path: The file; its suffix says which format.
        parts: Of each chunk, what ``encode_rows`` gave.
        schema: Of the rows.
        horizon: Rows of each series.
        has_times: Whether stamps in texts need a time beside the date.

    Raises:
        BulkRunError: It can not be written.
    """
    with writing(path) as file:
        writer = _WRITERS[path.suffix.lower()](file, schema, horizon, has_times)
        for part in parts:
            writer.write(decode_rows(part))
        writer.finish()


@contextmanager
def writing(path: Path) -> Generator[IO[bytes]]:
    """Open a file that takes the place of ``path`` when the block ends, and only if it does.

    Raises:
        BulkRunError: It can not be written.
    """
    staged = path.with_name(f".{path.name}.writing")
    try:
        with staged.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise BulkRunError(f"can not write {path}: {error.strerror or error}") from error


def remove(path: Path) -> None:
    """Remove a file, where there is one.

    Raises:
        BulkRunError: It can not be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise BulkRunError(f"can not remove {path}: {error.strerror}") from error


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere folders can not be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _ParquetWriter(_Writer):
    """Gathers chunks into row groups of a useful size."""

    def __init__(self, file: IO[bytes], schema: pa.Schema, *_: object) -> None:
        self._writer = pa_parquet.ParquetWriter(file, schema, compression="zstd")
        self._waiting: list[pa.Table] = []

    @override
    def write(self, table: pa.Table) -> None:
        self._waiting.append(table)
        if sum(len(one) for one in self._waiting) >= _ROWS_OF_A_GROUP:
            self._write_group()

    @override
    def finish(self) -> None:
        if self._waiting:
            self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        group = pa.concat_tables(self._waiting)
        self._waiting.clear()
        self._writer.write_table(group, row_group_size=max(1, len(group)))


class _ArrowWriter(_Writer):
    """Writes an Arrow file, or with the suffix ``.arrows`` an Arrow stream."""

    def __init__(self, file: IO[bytes], schema: pa.Schema, *_: object) -> None:
        self._writer: Any = pa.ipc.new_file(file, schema)

    @override
    def write(self, table: pa.Table) -> None:
        self._writer.write_table(table)

    @override
    def finish(self) -> None:
        self._writer.close()


class _ArrowStreamWriter(_ArrowWriter):
    def __init__(self, file: IO[bytes], schema: pa.Schema, *_: object) -> None:
        self._writer = pa.ipc.new_stream(file, schema)


class _CsvWriter(_Writer):
    def __init__(self, file: IO[bytes], schema: pa.Schema, _: int, has_times: bool) -> None:
        self._has_times = has_times
        self._has_stamps = pa.types.is_timestamp(schema.field("timestamp").type)
        if self._has_stamps:
            schema = schema.set(1, pa.field("timestamp", pa.string()))
        self._writer = pa_csv.CSVWriter(file, schema)

    @override
    def write(self, table: pa.Table) -> None:
        if self._has_stamps:
            texts = _stamp_texts(table["timestamp"], has_times=self._has_times)
            table = table.set_column(1, "timestamp", texts)
        self._writer.write_table(table)

    @override
    def finish(self) -> None:
        self._writer.close()


class _JsonLinesWriter(_Writer):
    """Writes one object per series, as the service answers them."""

    def __init__(self, file: IO[bytes], schema: pa.Schema, horizon: int, has_times: bool) -> None:
        self._file = file
        self._horizon = horizon
        self._has_times = has_times
        self._levels: Sequence[str] = schema.names[2:]
        self._has_stamps = pa.types.is_timestamp(schema.field("timestamp").type)

    @override
    def write(self, table: pa.Table) -> None:
        horizon = self._horizon
        names = table["item_id"].take(pa.array(np.arange(0, len(table), horizon))).to_pylist()
        columns = [table[level].to_numpy().reshape(-1, horizon) for level in self._levels]
        stamps: list[str] = []
        if self._has_stamps:
            stamps = _stamp_texts(table["timestamp"], has_times=self._has_times).to_pylist()
        for index, name in enumerate(names):
            content: dict[str, Any] = {} if name is None else {"item_id": name}
            if stamps:
                content["timestamps"] = stamps[index * horizon : (index + 1) * horizon]
            numbers = (column[index] for column in columns)
            content["quantiles"] = dict(zip(self._levels, numbers, strict=True))
            option = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
            self._file.write(orjson.dumps(content, option=option))

    @override
    def finish(self) -> None:
        """Lines need no end."""


_WRITERS: dict[str, type[Any]] = {
    ".parquet": _ParquetWriter,
    ".csv": _CsvWriter,
    ".jsonl": _JsonLinesWriter,
    ".ndjson": _JsonLinesWriter,
    ".arrow": _ArrowWriter,
    ".feather": _ArrowWriter,
    ".arrows": _ArrowStreamWriter,
}


def _stamp_texts(stamps: pa.ChunkedArray, *, has_times: bool) -> pa.Array:
    unit: Literal["s", "D"] = "s" if has_times else "D"
    exact = np.asarray(stamps, "M8[us]")
    texts = np.datetime_as_string(exact, unit=unit)
    has_fraction = exact != exact.astype("M8[s]")
    if has_fraction.any():
        texts = np.where(has_fraction, np.datetime_as_string(exact, unit="us"), texts)
    return pa.array(texts.tolist(), pa.string())
