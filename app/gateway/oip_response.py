"""Inference answers of the Open Inference Protocol v2: named tensors to bytes, without HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from app.gateway.catalog import ReadyModel
from app.gateway.oip_request import RequestedOutput
from app.tensors import DATATYPES, Tensors, tensor_bytes

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY


@dataclass(frozen=True, slots=True)
class TensorAnswer:
    """A serialised answer; ``header_length`` is the length of its JSON where tensors follow it."""

    body: bytes
    header_length: int | None


def encode_answer(
    request_id: str, model: ReadyModel, outputs: Tensors, wanted: Sequence[RequestedOutput]
) -> TensorAnswer:
    """Write the ``wanted`` outputs, in their order.

    Data in JSON are flat, since clients count them, and null where a number is not finite; binary
    tensors keep such numbers. An output's parameters hold ``binary_data_size`` alone: clients fail
    on any other.
    """
    blocks: list[memoryview] = []
    entries: list[dict[str, Any]] = []
    for output in wanted:
        array = outputs[output.name]
        if output.is_binary:
            blocks.append(tensor_bytes(array))
            entries.append(_describe(output.name, array, blocks[-1]))
        else:
            entries.append(_describe(output.name, array, None))
    content: dict[str, Any] = {
        "model_name": model.model_name,
        "model_version": str(model.model_version),
    }
    if request_id:
        content["id"] = request_id
    header = orjson.dumps(content | {"outputs": entries}, option=_OPTIONS)
    if not any(output.is_binary for output in wanted):
        return TensorAnswer(header, None)
    return TensorAnswer(b"".join([header, *blocks]), len(header))


def _describe(name: str, array: NDArray[Any], block: memoryview | None) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": name,
        "datatype": DATATYPES[array.dtype],
        "shape": array.shape,
    }
    if block is not None:
        return entry | {"parameters": {"binary_data_size": len(block)}}
    flat = array.reshape(-1)
    return entry | {"data": flat.tolist() if array.dtype == object else np.ascontiguousarray(flat)}
