"""Inference answers of the Open Inference Protocol v2: named tensors to bytes, without HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from app.gateway.catalog import ReadyModel
from app.gateway.oip_request import RequestedOutput
from app.tensors import DATATYPES, Tensors

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

    Data in JSON are flat, since clients count them, and null where a number is NaN; binary tensors
    keep NaN. An output's parameters hold ``binary_data_size`` alone: clients fail on any other.
    """
    blocks: list[memoryview] = []
    entries: list[dict[str, Any]] = []
    for output in wanted:
        array = np.require(outputs[output.name], requirements=["C", "A"])
        entries.append(_entry(output, array))
        if output.is_binary and array.size:
            blocks.append(array.data.cast("B"))
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


def _entry(output: RequestedOutput, array: NDArray[Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": output.name,
        "datatype": DATATYPES[array.dtype],
        "shape": array.shape,
    }
    if output.is_binary:
        return entry | {"parameters": {"binary_data_size": array.nbytes}}
    return entry | {"data": array.reshape(-1)}
