"""Named NumPy arrays, the one currency between protocols, batcher and engine."""

import struct
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Tensors = dict[str, NDArray[Any]]

LARGEST_MAGNITUDE = 1e30
"""Of any number of a series: differences and sums of such numbers are finite in float32 too."""

Datatype = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BYTES",
]

NUMPY_DTYPES: dict[Datatype, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(object),
}
"""Open Inference Protocol data types, and how NumPy stores them; elements of BYTES are ``str``."""

DATATYPES: dict[np.dtype[Any], Datatype] = {dtype: name for name, dtype in NUMPY_DTYPES.items()}

_LENGTH = struct.Struct("<I")


def to_float32(values: Sequence[float | None]) -> NDArray[np.float32]:
    """Convert numbers, None to NaN; what is too large becomes infinite."""
    try:
        # several times as fast as NumPy's own conversion
        return np.frombuffer(struct.pack(f"{len(values)}f", *values), np.float32)
    except (struct.error, OverflowError):
        with np.errstate(over="ignore"):
            return np.array(values, np.float32)


def tensor_bytes(tensor: NDArray[Any]) -> memoryview:
    """Return the numbers in C order, without a copy where they are contiguous."""
    if tensor.dtype == NUMPY_DTYPES["BYTES"]:
        return memoryview(pack_texts(tensor))
    # a view of no bytes can not be cast
    return np.ascontiguousarray(tensor).data.cast("B") if tensor.size else memoryview(b"")


def pack_texts(tensor: NDArray[Any]) -> bytes:
    """Write texts as the protocol's BYTES: four bytes of length, then UTF-8, in C order."""
    texts = [str(text).encode() for text in tensor.reshape(-1)]
    return b"".join(part for text in texts for part in (_LENGTH.pack(len(text)), text))


def unpack_texts(data: memoryview) -> NDArray[Any]:
    """Read what ``pack_texts`` wrote, as a flat array.

    Raises:
        ValueError: It ends within a text, or a text is not UTF-8.
    """
    texts: list[str] = []
    start = 0
    while start < len(data):
        if start + _LENGTH.size > len(data):
            raise ValueError("the data end within a length")
        (length,) = _LENGTH.unpack_from(data, start)
        start += _LENGTH.size
        if start + length > len(data):
            raise ValueError("the data end within a text")
        texts.append(str(data[start : start + length], "utf-8"))
        start += length
    tensor = np.empty(len(texts), object)
    tensor[:] = texts
    return tensor
