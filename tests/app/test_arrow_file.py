"""Arrow data that are small until they are decoded."""

import io
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pytest

from app.errors import InvalidInputError, PayloadTooLargeError
from app.files import arrow_file
from app.files.arrow_file import ArrowFile
from app.files.raw import FileLimits

NUM_ROWS = 50_000
MOST_BYTES = 4 * 2**20
INT32 = 4
AS_TEXT = pa.dictionary(pa.int32(), pa.string())


def open_arrow(**columns: Any) -> ArrowFile:
    sink, table = io.BytesIO(), pa.table(columns)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return ArrowFile(sink.getvalue(), FileLimits())


def look(length: int, places: list[int], kind: pa.DataType) -> pa.Array:
    """Texts of one length that begin at these places of one buffer."""
    words = [
        word for place in places for word in (length, int.from_bytes(b"xxxx", "little"), 0, place)
    ]
    views = b"".join(word.to_bytes(INT32, "little") for word in words)
    content = b"x" * (length + max(places))
    buffers = [None, pa.py_buffer(views), pa.py_buffer(content)]
    return pa.Array.from_buffers(kind, len(places), buffers)


SHARED = {
    "text": look(8000, [0] * NUM_ROWS, pa.string_view()),
    "bytes": look(8000, [0] * NUM_ROWS, pa.binary_view()),
    "dictionary of bytes": pa.DictionaryArray.from_arrays(
        pa.array([0] * NUM_ROWS, pa.int32()), pa.array([b"x" * 8000])
    ),
    "dictionary of views": pa.DictionaryArray.from_arrays(
        pa.array([0] * NUM_ROWS, pa.int32()), look(8000, [0], pa.binary_view())
    ),
}


@pytest.mark.parametrize("name", SHARED)
def test_one_text_in_many_rows_stays_small(name: str) -> None:
    (piece,) = open_arrow(note=SHARED[name]).pieces()
    assert (piece.table.num_rows, piece.table["note"].type) == (NUM_ROWS, AS_TEXT)
    assert piece.table.nbytes < MOST_BYTES


@pytest.mark.parametrize("as_dictionary", [False, True], ids=["plain", "dictionary"])
@pytest.mark.parametrize("kind", [pa.string_view(), pa.binary_view()], ids=str)
def test_texts_that_overlap_are_refused(kind: pa.DataType, *, as_dictionary: bool) -> None:
    cells = look(8000, list(range(2000)), kind)
    if as_dictionary:
        cells = pa.DictionaryArray.from_arrays(pa.array(range(2000), pa.int32()), cells)
    with pytest.raises(PayloadTooLargeError, match="texts of column note overlap"):
        list(open_arrow(note=cells).pieces())


def test_pieces_of_texts_are_those_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow_file, "PIECE_ROWS", 3)
    texts = ["a", None, "b" * 20, "c", "b" * 20, "", "a"]
    kinds = {
        "views": pa.string_view(),
        "bytes": pa.binary_view(),
        "shared": pa.dictionary(pa.int8(), pa.binary()),
        "plain": pa.large_string(),
    }
    file = open_arrow(**{name: pa.array(texts).cast(kind) for name, kind in kinds.items()})
    tables = [piece.table for piece in file.pieces()]
    for name in kinds:
        assert [text for table in tables for text in table[name].to_pylist()] == texts


@pytest.mark.parametrize("rest", [1, 8])
def test_buffer_of_views_may_be_longer_than_they_are(rest: int) -> None:
    views, text = look(20, [0, 1], pa.string_view()).buffers()[1:]
    longer = [None, pa.py_buffer(views.to_pybytes() + bytes(rest)), text]
    (piece,) = open_arrow(note=pa.Array.from_buffers(pa.string_view(), 2, longer)).pieces()
    assert piece.table["note"].to_pylist() == ["x" * 20] * 2


def test_no_texts_are_read() -> None:
    assert not list(open_arrow(note=pa.array([], pa.string_view())).pieces())
    empty = pa.array([None, None], pa.dictionary(pa.int32(), pa.string()))
    (piece,) = open_arrow(note=empty).pieces()
    assert piece.table["note"].to_pylist() == [None, None]


UNREAD = {
    "list": pa.array([[1]] * 2),
    "list_view": pa.array([[1]] * 2, pa.list_view(pa.int64())),
    "run_end_encoded": pa.RunEndEncodedArray.from_arrays(
        pa.array([2], pa.int32()), pa.array(["a"])
    ),
    "dictionary<values=list": pa.DictionaryArray.from_arrays(
        pa.array([0, 0], pa.int32()), pa.array([[1]])
    ),
}


@pytest.mark.parametrize("kind", UNREAD)
def test_cells_of_any_size_are_refused_where_they_are_needed(kind: str) -> None:
    file = open_arrow(tags=UNREAD[kind], y=[1, 2])
    assert [piece.table.column_names for piece in file.pieces()] == [["y"]]
    with pytest.raises(InvalidInputError, match=f"column tags must hold .*, not {kind}"):
        list(file.pieces(["tags"]))


def test_bytes_that_are_no_text_are_left_out_unless_they_are_needed() -> None:
    photo = pa.DictionaryArray.from_arrays(pa.array([0, 0], pa.int32()), pa.array([b"\xff"]))
    file = open_arrow(photo=photo, y=[1, 2])
    assert [piece.table.column_names for piece in file.pieces()] == [["y"]]
    with pytest.raises(InvalidInputError, match="column photo is not UTF-8"):
        list(file.pieces(["photo"]))
