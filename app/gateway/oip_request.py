"""Inference requests of the Open Inference Protocol v2: bytes to named tensors, without HTTP.

A body is JSON, then the bytes of its binary tensors. Those become read-only views of the body: no
number is looked at. Formats: ``inference_rest.md`` of the protocol's specification, and its binary
tensor extension.
"""

import math
import re
from dataclasses import dataclass
from functools import cache
from types import GenericAlias
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.artifact.specs import TensorSpec
from app.errors import InvalidInputError, MalformedBodyError
from app.interface import BATCH
from app.tensors import NUMPY_DTYPES, Datatype, Tensors, to_float32, unpack_texts

_MAX_DIMENSIONS = 8
_MAX_NAME_LENGTH = 64
_MAX_SEQUENCE_ID_LENGTH = 128
_STRING_OR_NAN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|\bNaN\b', re.DOTALL)
"""Takes an unfinished string to the end of the text, so that no text is searched twice."""
_OPENING = re.compile(rb"[\s\[]*")
_DATATYPES: dict[str, Datatype] = {name: name for name in NUMPY_DTYPES}
NO_JSON = "FP16"
"""As in Triton, numbers of this type are sent as bytes alone."""
_KINDS: dict[str, Any] = {"b": bool, "i": int, "u": int, "f": float | None, "O": str}
"""What the elements are in JSON, by NumPy's kind of the type."""

Parameters = dict[str, Any]
Size = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


_NO_DATA = msgspec.Raw()


class _Input(msgspec.Struct):
    name: str
    shape: list[Size]
    datatype: str
    parameters: Parameters | None = None
    data: msgspec.Raw = _NO_DATA


class _Output(msgspec.Struct):
    name: str
    parameters: Parameters | None = None


class _Request(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    parameters: Parameters | None = None
    outputs: list[_Output] | None = None


_decoder = msgspec.json.Decoder(_Request)


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output that the caller names, and the form it wants."""

    name: str
    is_binary: bool


@dataclass(frozen=True, slots=True)
class SequenceFlags:
    """Where a request stands in the sequence ``id``."""

    id: int | str
    is_start: bool
    is_end: bool


@dataclass(frozen=True, slots=True)
class TensorRequest:
    """A parsed request.

    Attributes:
        id: Echoed where it is not empty.
        inputs: Tensors by name, with the types that the caller gave them.
        outputs: What is wanted; empty means all.
        is_binary: Form of outputs that the request does not name.
        timeout_s: Longest the request may take; None leaves it to the service.
        priority: 1 is the highest; 0 leaves it to the service.
        sequence: Where it stands in a sequence.
    """

    inputs: Tensors
    id: str = ""
    outputs: tuple[RequestedOutput, ...] = ()
    is_binary: bool = False
    timeout_s: float | None = None
    priority: int = 0
    sequence: SequenceFlags | None = None


def parse_header_length(text: bytes | None, num_bytes: int) -> int:
    """Return how many bytes of a body are JSON; 0 marks a raw request.

    Raises:
        MalformedBodyError: ``Inference-Header-Content-Length`` is no such number.
    """
    if text is None:
        return num_bytes
    is_number = re.fullmatch(rb"[0-9]{1,18}", text.strip()) is not None
    if not is_number or int(text) > num_bytes:
        raise MalformedBodyError(
            "Inference-Header-Content-Length must be the number of JSON bytes, at most"
            f" {num_bytes} for this body"
        )
    return int(text)


def parse_request(body: bytes, header_length: int) -> TensorRequest:
    """Parse a body whose first ``header_length`` bytes are JSON and whose others are tensors.

    Raises:
        MalformedBodyError: The JSON can not be read, or bytes are missing or left over.
        InvalidInputError: A field or a tensor is wrong, or asks for what is not supported.
    """
    view = memoryview(body)
    request = _decode(view[:header_length])
    inputs = _read_inputs(request.inputs, view[header_length:])
    if not request.parameters and not request.outputs:
        return TensorRequest(inputs=inputs, id=request.id or "")
    parameters = request.parameters or {}
    is_binary = _flag(parameters, "binary_data_output", default=False)
    return TensorRequest(
        inputs=inputs,
        id=request.id or "",
        outputs=_read_outputs(request.outputs or (), is_binary=is_binary),
        is_binary=is_binary,
        timeout_s=_timeout(parameters),
        priority=_count(parameters, "priority"),
        sequence=_sequence(parameters),
    )


def parse_raw_request(body: bytes, spec: TensorSpec) -> TensorRequest:
    """Take ``body`` as the bytes of one row of the input ``spec``; all outputs will be binary.

    Raises:
        InvalidInputError: The shape of the input does not follow from the number of bytes.
        MalformedBodyError: The body is empty, or ends within a row.
    """
    dtype = NUMPY_DTYPES[spec.datatype]
    shape = [1 if size == BATCH else size for size in spec.shape]
    free = [axis for axis, size in enumerate(shape) if isinstance(size, str)]
    if len(free) > 1 or spec.datatype == "BYTES":
        raise InvalidInputError(f"the shape of {spec.name} does not follow from a raw request")
    step = math.prod(size for size in shape if isinstance(size, int)) * dtype.itemsize
    is_whole = not len(body) % step if free else len(body) == step
    if not body or not is_whole:
        raise MalformedBodyError(f"a raw request must hold whole rows of {spec.datatype} numbers")
    sizes = [size if isinstance(size, int) else len(body) // step for size in shape]
    inputs = {spec.name: np.frombuffer(body, dtype).reshape(sizes)}
    return TensorRequest(inputs=inputs, is_binary=True)


def _sequence(parameters: Parameters) -> SequenceFlags | None:
    """Read the sequence; an id of 0 or an empty one is none, as in Triton."""
    is_start, is_end = (
        _flag(parameters, name, default=False) for name in ("sequence_start", "sequence_end")
    )
    sequence_id = parameters.get("sequence_id")
    if isinstance(sequence_id, str) and len(sequence_id) > _MAX_SEQUENCE_ID_LENGTH:
        raise InvalidInputError(
            f"parameter sequence_id may have at most {_MAX_SEQUENCE_ID_LENGTH} characters"
        )
    if not isinstance(sequence_id, str):
        sequence_id = _count(parameters, "sequence_id")
    if sequence_id:
        return SequenceFlags(sequence_id, is_start, is_end)
    if is_start or is_end:
        raise InvalidInputError("sequence_start and sequence_end need a sequence_id")
    return None


def _timeout(parameters: Parameters) -> float | None:
    microseconds = _count(parameters, "timeout")
    return microseconds / 1e6 if microseconds else None


def _count(parameters: Parameters, name: str) -> int:
    value = parameters.get(name)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**64:
        raise InvalidInputError(f"parameter {name} must be a whole number from 0")
    return value


def _flag(parameters: Parameters | None, name: str, *, default: bool) -> bool:
    value = (parameters or {}).get(name, default)
    if not isinstance(value, bool):
        raise InvalidInputError(f"parameter {name} must be true or false")
    return value


def _decode(header: memoryview) -> _Request:
    try:
        return _decoder.decode(header)
    except msgspec.ValidationError as error:
        raise InvalidInputError(f"the request is not valid: {error}") from error
    except msgspec.DecodeError as error:
        text = bytes(header)
        without_nan = _without_nan(text)
        if without_nan == text:
            raise MalformedBodyError(f"the body can not be read: {error}") from error
        return _decode(memoryview(without_nan))
    except UnicodeDecodeError as error:
        raise MalformedBodyError("the body is not UTF-8") from error
    except RecursionError as error:
        raise MalformedBodyError("the body is nested too deep") from error


def _without_nan(text: bytes) -> bytes:
    """Write null for NaN, which is no JSON but is what tritonclient sends."""
    return _STRING_OR_NAN.sub(lambda found: b"null" if found[0] == b"NaN" else found[0], text)


def _read_inputs(inputs: list[_Input], blocks: memoryview) -> Tensors:
    tensors: Tensors = {}
    start = 0
    for one in inputs:
        name = one.name[:_MAX_NAME_LENGTH]
        if one.name in tensors:
            raise InvalidInputError(f"input {name} is given twice")
        _refuse_shared_memory(one.parameters, f"input {name}")
        stop = start + _num_binary_bytes(one)
        if stop > len(blocks):
            raise MalformedBodyError(
                f"input {name}: expecting {stop - len(blocks)} additional bytes"
            )
        tensors[one.name] = _read_tensor(one, blocks[start:stop])
        start = stop
    if start < len(blocks):
        raise MalformedBodyError(
            f"unexpected additional input data: {len(blocks) - start} bytes after the last tensor"
        )
    return tensors


def _num_binary_bytes(one: _Input) -> int:
    has_size = one.parameters is not None and "binary_data_size" in one.parameters
    if has_size == _has_data(one):
        raise InvalidInputError(
            f"input {one.name[:_MAX_NAME_LENGTH]} must have either data or binary_data_size"
        )
    return _count(one.parameters or {}, "binary_data_size")


def _read_tensor(one: _Input, block: memoryview) -> NDArray[Any]:
    name = one.name[:_MAX_NAME_LENGTH]
    datatype = _DATATYPES.get(one.datatype)
    if datatype is None:
        raise InvalidInputError(f"input {name}: datatype must be one of {', '.join(NUMPY_DTYPES)}")
    if not 1 <= len(one.shape) <= _MAX_DIMENSIONS:
        raise InvalidInputError(f"input {name}: shape must have 1 to {_MAX_DIMENSIONS} dimensions")
    if _has_data(one):
        return _read_json(one, datatype, name)
    if datatype == "BYTES":
        return _read_texts(one, block, name)
    expected = math.prod(one.shape) * NUMPY_DTYPES[datatype].itemsize
    if len(block) != expected:
        raise InvalidInputError(
            f"input {name}: binary_data_size must be {expected} for its shape and datatype"
        )
    if datatype == "BOOL":  # any other byte would be a third truth value
        values: NDArray[Any] = np.frombuffer(block, np.uint8) != 0
    else:
        values = np.frombuffer(block, NUMPY_DTYPES[datatype])
    return values.reshape(one.shape)


def _read_texts(one: _Input, block: memoryview, name: str) -> NDArray[Any]:
    try:
        texts = unpack_texts(block)
    except ValueError as error:
        raise InvalidInputError(f"input {name}: not BYTES in UTF-8: {error}") from error
    if texts.size != math.prod(one.shape):
        raise InvalidInputError(f"input {name}: data must have {math.prod(one.shape)} elements")
    return texts.reshape(one.shape)


def _read_json(one: _Input, datatype: Datatype, name: str) -> NDArray[Any]:
    if datatype == NO_JSON:
        raise InvalidInputError(f"input {name}: {NO_JSON} must be sent as binary data")
    depth = _opening_brackets(one.data)
    if depth not in {1, len(one.shape)}:
        raise InvalidInputError(f"input {name}: data must be flat, or nested as its shape")
    try:
        values = _to_array(_data_decoder(datatype, depth).decode(one.data), datatype, depth)
    except msgspec.ValidationError as error:
        raise InvalidInputError(f"input {name}: data: {error}") from error
    except (ValueError, OverflowError) as error:
        raise InvalidInputError(
            f"input {name}: data must be even rows of {datatype} elements"
        ) from error
    if values.size != math.prod(one.shape) or (depth > 1 and values.shape != tuple(one.shape)):
        raise InvalidInputError(f"input {name}: data must have {math.prod(one.shape)} elements")
    return values.reshape(one.shape)


def _to_array(numbers: list[Any], datatype: Datatype, depth: int) -> NDArray[Any]:
    if datatype == "FP32" and depth == 1:
        return to_float32(numbers)
    with np.errstate(over="ignore"):  # the runner refuses what is not finite
        return np.array(numbers, NUMPY_DTYPES[datatype])


def _has_data(one: _Input) -> bool:
    return one.data != _NO_DATA


def _opening_brackets(data: msgspec.Raw) -> int:
    found = _OPENING.match(data)
    return found[0].count(b"[") if found else 0


@cache
def _data_decoder(datatype: Datatype, depth: int) -> msgspec.json.Decoder[Any]:
    kind = _KINDS[NUMPY_DTYPES[datatype].kind]
    for _ in range(depth):
        kind = GenericAlias(list, (kind,))
    return msgspec.json.Decoder(kind)


def _read_outputs(
    outputs: list[_Output] | tuple[()], *, is_binary: bool
) -> tuple[RequestedOutput, ...]:
    read: dict[str, RequestedOutput] = {}
    for one in outputs:
        place = f"output {one.name[:_MAX_NAME_LENGTH]}"
        if one.name in read:
            raise InvalidInputError(f"{place} is named twice")
        _refuse_shared_memory(one.parameters, place)
        if _count(one.parameters or {}, "classification"):
            raise InvalidInputError(f"{place}: classification is not supported")
        is_one_binary = _flag(one.parameters, "binary_data", default=is_binary)
        read[one.name] = RequestedOutput(one.name, is_one_binary)
    return tuple(read.values())


def _refuse_shared_memory(parameters: Parameters | None, place: str) -> None:
    if parameters and "shared_memory_region" in parameters:
        raise InvalidInputError(f"{place}: shared memory is not supported")
