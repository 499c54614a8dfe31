"""Arrow streams and files, batch by batch."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

import flatbuffers.encode
import flatbuffers.packer
import numpy as np
from flatbuffers.number_types import Uint8Flags
from flatbuffers.table import Table
from typing_extensions import override

from app.arrow import pa
from app.errors import InvalidInputError, MalformedBodyError, PayloadTooLargeError
from app.files.raw import (
    PIECE_ROWS,
    FileLimits,
    RawFile,
    RawPiece,
    Source,
    check_columns,
    check_read,
    decode_texts,
    find_unread,
    first_line_of,
    open_bytes,
    open_native,
)

_FILE_MAGIC = b"ARROW1"
_FILE_MAGIC_BYTES = 8
_DICTIONARY, _BATCH = 2, 3
"""Kinds of messages in Arrow's ``Message.fbs``; the numbers below are offsets in its tables."""

_VIEW_BYTES = 16
"""The first four are the length of the text."""

_MOST_OVERLAP = 4
"""Parts of texts may be views of the same bytes, but not many."""

_DAMAGE = (OSError, UnicodeDecodeError)


class ArrowFile(RawFile):
    """An Arrow stream, or an Arrow file, which is also known as Feather.

    Raises:
        MalformedBodyError: It is neither, or damaged.
        InvalidInputError: A column is there twice.
        InvalidInputError: It is compressed, and there is a limit to what it may hold.
        PayloadTooLargeError: There are too many columns.
    """

    def __init__(self, source: Source, limits: FileLimits) -> None:
        self._source = source
        with open_bytes(source) as file:
            self._is_file = file.read(len(_FILE_MAGIC)) == _FILE_MAGIC
        try:
            if limits.max_decoded_bytes is not None:
                self._refuse_compressed()
            with self._open() as (schema, _):
                self.column_names = schema.names
                self._unread = find_unread({field.name: field.type for field in schema})
        except (pa.ArrowException, *_DAMAGE) as error:
            raise _not_arrow(error) from error
        check_columns(self.column_names)

    @override
    def pieces(self, columns: Sequence[str] | None = None) -> Iterator[RawPiece]:
        check_read(columns or (), self._unread)
        chosen = self.column_names if columns is None else columns
        names = [name for name in chosen if name not in self._unread]
        row = 1
        try:
            with self._open() as (_, batches):
                for batch in batches:
                    batch.validate(full=True)  # what a stranger sends may point outside itself
                    table = pa.Table.from_batches([batch]).select(names)
                    for start in range(0, batch.num_rows, PIECE_ROWS):
                        part = _share_texts(table.slice(start, PIECE_ROWS))
                        yield RawPiece(decode_texts(part, needed=columns or ()), row + start)
                    row += batch.num_rows
        except (pa.ArrowException, *_DAMAGE) as error:
            raise _not_arrow(error) from error

    def _refuse_compressed(self) -> None:
        """What a compressed batch holds can not be known before it is decompressed."""
        with open_native(self._source) as native:
            native.seek(_FILE_MAGIC_BYTES if self._is_file else 0)  # a file holds a stream
            for message in pa.ipc.MessageReader.open_stream(native):
                if _is_compressed(message):
                    raise InvalidInputError(
                        "the Arrow data are compressed: send them plain, with the body in gzip, or "
                        "as Parquet"
                    )

    @contextmanager
    def _open(self) -> Generator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
        with open_native(self._source) as native:
            if self._is_file:
                with pa.ipc.open_file(native) as file:
                    count = file.num_record_batches
                    yield file.schema, (file.get_batch(index) for index in range(count))
            else:
                with pa.ipc.open_stream(native) as stream:
                    yield stream.schema, iter(stream)


def _share_texts(table: pa.Table) -> pa.Table:
    """Make dictionaries of views: one long text in many rows must not become many long texts."""
    for index, name in enumerate(table.column_names):
        cells = table[index]
        is_shared = pa.types.is_dictionary(cells.type)
        if not _is_view(cells.type.value_type if is_shared else cells.type):
            continue
        for chunk in cells.chunks:
            _check_views(name, chunk.dictionary if is_shared else chunk)
        table = table.set_column(index, name, cells if is_shared else cells.dictionary_encode())
    return table


def _is_view(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string_view(kind) or pa.types.is_binary_view(kind))


def _check_views(name: str, texts: pa.Array) -> None:
    """Different views may overlap, so that all of them are longer than what they look into."""
    _, views, *contents = texts.buffers()
    stop = texts.offset + len(texts)  # the buffer may be longer
    words = np.frombuffer(views or b"", np.uint8)[: _VIEW_BYTES * stop].view(np.int32)
    own = words.reshape(-1, 4)[texts.offset :][texts.is_valid().to_numpy(zero_copy_only=False)]
    length = int(np.unique(own, axis=0)[:, 0].sum(dtype=np.int64))
    if length > own.nbytes + _MOST_OVERLAP * sum(content.size for content in contents):
        raise PayloadTooLargeError(
            f"the texts of column {name} overlap: decoded, they are too large"
        )


def _not_arrow(error: Exception) -> MalformedBodyError:
    return MalformedBodyError(f"the file is no Arrow stream: {first_line_of(error)}")


def _is_compressed(message: pa.ipc.Message) -> bool:
    """Whether a message, which pyarrow has verified, names a compression of its buffers."""
    content = message.metadata.to_pybytes()
    root = Table(content, flatbuffers.encode.Get(flatbuffers.packer.uoffset, content, 0))
    kind = root.Get(Uint8Flags, root.Pos + root.Offset(6))
    if kind not in {_DICTIONARY, _BATCH}:
        return False
    batch = Table(content, root.Indirect(root.Pos + root.Offset(8)))
    if kind == _DICTIONARY:
        batch = Table(content, batch.Indirect(batch.Pos + batch.Offset(6)))
    return bool(batch.Offset(10))
