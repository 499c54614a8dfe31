"""Parquet files, read some rows at a time; a bomb is refused by its own footer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from typing_extensions import override

from app.arrow import pa, pa_parquet
from app.errors import MalformedBodyError, PayloadTooLargeError
from app.files.raw import (
    MAX_COLUMNS,
    PIECE_ROWS,
    FileLimits,
    RawFile,
    RawPiece,
    Source,
    check_columns,
    check_num_rows,
    check_read,
    decode_texts,
    find_unread,
    first_line_of,
    may_be_text,
    open_native,
)

_MAX_CELLS = 2**22
_CELL_BYTES = 8
_COLUMN_BUFFER_BYTES = 2**16
_DAMAGE = (OSError, UnicodeDecodeError)


class ParquetFile(RawFile):
    """A Parquet file.

    Raises:
        MalformedBodyError: It is none, or damaged.
        InvalidInputError: A column is there twice.
        PayloadTooLargeError: It has too many rows or columns, or is too large when decompressed.
    """

    def __init__(self, source: Source, limits: FileLimits) -> None:
        self._source = source
        try:
            with open_native(source) as native, _open(native) as file:
                _check_size(file.metadata, limits)
                schema = file.schema_arrow
        except (pa.ArrowException, *_DAMAGE) as error:
            raise _not_parquet(error) from error
        self.column_names = schema.names
        check_columns(self.column_names)
        self._kinds = {field.name: field.type for field in schema}
        self._unread = _find_unread(self._kinds)
        self._texts = [name for name, kind in self._kinds.items() if may_be_text(kind)]

    @override
    def pieces(self, columns: Sequence[str] | None = None) -> Iterator[RawPiece]:
        check_read(columns or (), self._unread)
        chosen = self.column_names if columns is None else columns
        names = [name for name in chosen if name not in self._unread]
        row = 1
        try:
            # As dictionaries: one long text in a million rows must not become a million texts.
            with open_native(self._source) as native, _open(native, self._texts) as file:
                num_rows = self._count_rows(names)
                for batch in file.iter_batches(num_rows, columns=names, use_threads=False):
                    table = pa.Table.from_batches([batch]).select(names)
                    yield RawPiece(decode_texts(table, needed=columns or ()), row)
                    row += batch.num_rows
        except (pa.ArrowException, *_DAMAGE) as error:
            raise _not_parquet(error) from error

    def _count_rows(self, names: Sequence[str]) -> int:
        """Return how many rows are read at a time: fewer where they are wide."""
        num_cells = sum(_count_cells(self._kinds[name]) for name in names)
        return max(1, min(PIECE_ROWS, _MAX_CELLS // max(1, num_cells)))


def _find_unread(kinds: Mapping[str, pa.DataType]) -> dict[str, str]:
    unread = find_unread(kinds)
    # pyarrow takes the name a.b also for what is in column a.
    prefixes = tuple(f"{name}." for name in unread)
    parts = {name: "parts of another column" for name in kinds if name.startswith(prefixes)}
    return unread | parts


def _count_cells(kind: pa.DataType) -> int:
    is_wide = pa.types.is_fixed_size_binary(kind)
    return 1 + kind.byte_width // _CELL_BYTES if is_wide else 1


def _open(native: pa.NativeFile, texts: Sequence[str] = ()) -> pa_parquet.ParquetFile:
    return pa_parquet.ParquetFile(
        native,
        read_dictionary=list(texts),
        buffer_size=_COLUMN_BUFFER_BYTES,
        thrift_string_size_limit=2**24,
        thrift_container_size_limit=2**20,
    )


def _check_size(metadata: pa_parquet.FileMetaData, limits: FileLimits) -> None:
    if metadata.num_columns > MAX_COLUMNS:
        raise PayloadTooLargeError(f"the file may have at most {MAX_COLUMNS} columns")
    check_num_rows(metadata.num_rows, limits)
    if limits.max_decoded_bytes is None:
        return
    size = sum(
        metadata.row_group(group).column(column).total_uncompressed_size
        for group in range(metadata.num_row_groups)
        for column in range(metadata.num_columns)
    )
    if size > limits.max_decoded_bytes:
        raise PayloadTooLargeError(
            f"decompressed, the file would hold {size} bytes, more than {limits.max_decoded_bytes}"
        )


def _not_parquet(error: Exception) -> MalformedBodyError:
    return MalformedBodyError(f"the file is not Parquet: {first_line_of(error)}")
