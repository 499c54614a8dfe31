"""A file as pieces of raw cells, whatever its format.

A file comes from anybody: pyarrow's readers are made, and fuzzed, for untrusted bytes. They read
native files alone, never Python's: their threads may outlive the interpreter.
"""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from app.arrow import pa
from app.errors import InvalidInputError, PayloadTooLargeError

FileFormat = Literal["csv", "jsonl", "parquet", "arrow"]

Source = Path | bytes
"""A file on disk, or the content of a small one."""

MAX_COLUMNS = 1000
PIECE_BYTES = 4 * 2**20
"""About how much text is read at a time."""

PIECE_ROWS = 2**17
"""Most rows of a table that are read at a time."""

_MAX_REASON = 120
_LONGEST_TYPE = 40
_WIDEST_CELL_BYTES = 256
"""No number, and no name of an item, is wider."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileLimits:
    """What a file may hold, and how much of it is held at a time; None sets no limit.

    Attributes:
        max_rows: Rows of the file.
        max_decoded_bytes: Bytes that the columns of a Parquet file hold, decompressed; compressed
            Arrow data, which do not tell that, are refused where there is a limit.
        max_series_steps: Values of one series, with its gaps filled.
        rows_in_memory: About how many rows are kept in memory at a time, if there are no
            covariates; a longer file is streamed.
    """

    max_rows: int | None = None
    max_decoded_bytes: int | None = None
    max_series_steps: int = 20_000_000
    rows_in_memory: int = 2**19

    def keeps(self, num_rows: int, num_covariates: int) -> bool:
        """Whether so many rows are kept in memory."""
        return num_rows * (1 + num_covariates) <= self.rows_in_memory


@dataclass(frozen=True, slots=True)
class RawPiece:
    """Some rows as the file has them, and the number of the first one.

    Rows are counted as a spreadsheet shows them: the header of a CSV file is row 1, blank lines do
    not count.
    """

    table: pa.Table
    first_row: int


class RawFile(Protocol):
    """A file that can be read again and again; its columns are known before.

    Attributes:
        column_names: All of them, in the order of the file.
        separator: What separates the cells of a CSV file; None in others.
    """

    column_names: Sequence[str]
    separator: str | None = None

    @abstractmethod
    def pieces(self, columns: Sequence[str] | None = None) -> Iterator[RawPiece]:
        """Read the file from its beginning: these columns, or all whose cells can be read.

        Raises:
            InvalidInputError: One of these columns has cells that can not be read, such as lists.
            PayloadTooLargeError: Texts are far larger than the file.
        """

    def close(self) -> None:
        """Delete what was written to read it."""
        return


def open_native(source: Source) -> pa.NativeFile:
    """Open a file for pyarrow."""
    return pa.BufferReader(source) if isinstance(source, bytes) else pa.OSFile(str(source), "rb")


def open_bytes(source: Source) -> BinaryIO:
    """Open a file for Python."""
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def check_columns(names: Sequence[str]) -> None:
    """Check the names of columns.

    Raises:
        PayloadTooLargeError: There are too many.
        InvalidInputError: A column is there twice.
    """
    if len(names) > MAX_COLUMNS:
        raise PayloadTooLargeError(f"the file may have at most {MAX_COLUMNS} columns")
    for name in names:
        if names.count(name) > 1:
            raise InvalidInputError(f"column {name} is there {names.count(name)} times")


def check_num_rows(num_rows: int, limits: FileLimits) -> None:
    """Check the number of rows.

    Raises:
        PayloadTooLargeError: There are too many.
    """
    if limits.max_rows is not None and num_rows > limits.max_rows:
        raise PayloadTooLargeError(f"the file may have at most {limits.max_rows} rows")


def find_unread(kinds: Mapping[str, pa.DataType]) -> dict[str, str]:
    """Return the columns whose cells may be of any size once decoded, and what is in them."""
    return {n: str(kind)[:_LONGEST_TYPE] for n, kind in kinds.items() if not _is_plain(kind)}


def check_read(names: Sequence[str], unread: Mapping[str, str]) -> None:
    """Check that columns can be read.

    Raises:
        InvalidInputError: One of them can not.
    """
    for name in names:
        if name in unread:
            raise InvalidInputError(
                f"column {name} must hold numbers, texts or times, not {unread[name]}"
            )


def _is_plain(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return not pa.types.is_dictionary(kind.value_type) and _is_plain(kind.value_type)
    if pa.types.is_fixed_size_binary(kind):
        return bool(kind.byte_width <= _WIDEST_CELL_BYTES)
    checks = (pa.types.is_primitive, pa.types.is_decimal, pa.types.is_null, may_be_text)
    return any(check(kind) for check in checks)


def may_be_text(kind: pa.DataType) -> bool:
    """Whether cells are texts, or bytes that may be."""
    of_text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    of_bytes = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return any(check(kind) for check in (*of_text, *of_bytes))


def decode_texts(table: pa.Table, needed: Sequence[str]) -> pa.Table:
    """Make texts of dictionaries of bytes; a column that is none is left out.

    Raises:
        InvalidInputError: It is needed.
    """
    for index in reversed(range(table.num_columns)):
        name = table.column_names[index]
        try:
            table = table.set_column(index, name, _decode_text(table[index]))
        except pa.ArrowInvalid as error:
            if name in needed:
                raise InvalidInputError(f"column {name} is not UTF-8") from error
            table = table.remove_column(index)
    return table


def _decode_text(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    if not (pa.types.is_dictionary(cells.type) and may_be_text(cells.type.value_type)):
        return cells
    chunks = [
        pa.DictionaryArray.from_arrays(chunk.indices, chunk.dictionary.cast(pa.string()))
        for chunk in cells.chunks
    ]
    return pa.chunked_array(chunks, pa.dictionary(cells.type.index_type, pa.string()))


def first_line_of(error: Exception) -> str:
    """Return what a library complains of, cut to a readable length."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:_MAX_REASON]
