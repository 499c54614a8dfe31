"""Reads a protobuf message field by field, without its schema.

What no reader agrees on is refused, not skipped: groups, field numbers out of range, lengths beyond
the end. So every reader of bytes that pass here finds the same fields in them.
"""

from collections.abc import Iterator

from app.errors import ArtifactError

Value = int | memoryview
"""A number where the field is a varint, else the bytes of the field."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}
_MAX_VARINT_SIZE = 10
_CONTINUES = 0x80
_MAX_TAG = 2**32


def read_fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """Return number and value of each field, in the order of the bytes.

    Raises:
        ArtifactError: The bytes are no message, or are cut off.
    """
    place = 0
    while place < len(message):
        tag, place = _read_varint(message, place)
        number, kind = tag >> 3, tag & 7
        if not number or tag >= _MAX_TAG:
            raise ArtifactError("not an ONNX file: a field has an impossible number")
        if kind == _VARINT:
            value, place = _read_varint(message, place)
            yield number, value
            continue
        if kind == _BYTES:
            size, place = _read_varint(message, place)
        elif kind in _FIXED_SIZES:
            size = _FIXED_SIZES[kind]
        else:
            raise ArtifactError("not an ONNX file: a field has an unknown encoding")
        if size > len(message) - place:
            raise ArtifactError("not an ONNX file, or cut off: a field reaches beyond the end")
        yield number, message[place : place + size]
        place += size


def _read_varint(message: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift, byte in enumerate(message[place : place + _MAX_VARINT_SIZE]):
        value |= (byte & ~_CONTINUES) << 7 * shift
        if not byte & _CONTINUES:
            return value, place + shift + 1
    raise ArtifactError("not an ONNX file, or cut off: a number has no end")
