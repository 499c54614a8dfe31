"""JSON Lines files: one object a line, its keys are the columns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from typing_extensions import override

from app.arrow import pa, pa_json
from app.errors import InvalidInputError, MalformedBodyError
from app.files.raw import (
    PIECE_BYTES,
    RawFile,
    RawPiece,
    Source,
    check_columns,
    first_line_of,
    open_bytes,
)

_NUMBERED_ROW = re.compile(r"JSON parse error: (.*?)\.? in row (\d+)", re.DOTALL)


class JsonLinesFile(RawFile):
    """A JSON Lines file; its columns are the keys of its beginning.

    Raises:
        MalformedBodyError: It is empty, no JSON, or not UTF-8.
        InvalidInputError: A row is wrong, or a key is there twice.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.column_names = []
        first = next(self._read(), None)
        if first is None:
            raise MalformedBodyError("the file is empty")
        self.column_names = first.table.column_names
        check_columns(self.column_names)

    @override
    def pieces(self, columns: Sequence[str] | None = None) -> Iterator[RawPiece]:
        names = self.column_names if columns is None else columns
        for piece in self._read():
            found, count = set(piece.table.column_names), piece.table.num_rows
            cells = [piece.table[n] if n in found else pa.nulls(count) for n in names]
            yield RawPiece(pa.Table.from_arrays(cells, names), piece.first_row)

    def _read(self) -> Iterator[RawPiece]:
        """Cut the file at ends of lines, so that rows can be counted."""
        row, num_lines = 1, 0
        with open_bytes(self._source) as file:
            while lines := _read_lines(file):
                if lines.strip():
                    table = _parse(lines, first_row=row, first_line=num_lines + 1)
                    yield RawPiece(table, row)
                    row += table.num_rows
                num_lines += lines.count(b"\n")


def _read_lines(file: BinaryIO) -> bytes:
    lines = file.read(PIECE_BYTES)
    if len(lines) < PIECE_BYTES or lines.endswith(b"\n"):
        return lines
    rest = file.readline(PIECE_BYTES)
    if len(rest) == PIECE_BYTES and not rest.endswith(b"\n"):
        raise InvalidInputError(f"a row is longer than {PIECE_BYTES} bytes")
    return lines + rest


def _parse(lines: bytes, *, first_row: int, first_line: int) -> pa.Table:
    try:
        lines.decode()
        return _keep_texts(_read_json(lines), lines)
    except UnicodeDecodeError as error:
        line = first_line + lines[: error.start].count(b"\n")
        raise MalformedBodyError(f"row {line} is not UTF-8") from error
    except pa.ArrowInvalid as error:
        if match := _NUMBERED_ROW.search(str(error)):
            reason = match[1].replace("Column(/", "column ").replace(")", "")
            raise InvalidInputError(f"row {first_row + int(match[2])}: {reason}") from error
        raise MalformedBodyError(f"the file is not JSON Lines: {first_line_of(error)}") from error


def _read_json(lines: bytes, options: pa_json.ParseOptions | None = None) -> pa.Table:
    return pa_json.read_json(
        pa.BufferReader(lines),
        pa_json.ReadOptions(use_threads=False, block_size=max(len(lines) + 1, 2**16)),
        options,
    )


def _keep_texts(table: pa.Table, lines: bytes) -> pa.Table:
    """Put texts back where pyarrow made stamps of them, which have no offset and may be names."""
    names = [field.name for field in table.schema if pa.types.is_timestamp(field.type)]
    if not names:
        return table
    options = pa_json.ParseOptions(
        explicit_schema=pa.schema([(name, pa.string()) for name in names]),
        unexpected_field_behavior="ignore",
    )
    texts = _read_json(lines, options)
    for name in names:
        table = table.set_column(table.column_names.index(name), name, texts[name])
    return table
