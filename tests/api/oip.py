"""Requests of the Open Inference Protocol, as its clients write them, and their answers."""

import json
from typing import Any

import numpy as np
from httpx import AsyncClient, Response
from numpy.typing import NDArray

INFER_PATH = "/v2/models/tiny/infer"
HEADER = "Inference-Header-Content-Length"
NAMES = {"f4": "FP32", "f8": "FP64", "i4": "INT32", "i8": "INT64"}

Json = dict[str, Any]


def json_input(array: NDArray[Any], name: str = "past_target") -> Json:
    return binary_input(array, name) | {"parameters": {}, "data": array.ravel().tolist()}


def binary_input(array: NDArray[Any], name: str = "past_target") -> Json:
    return {
        "name": name,
        "shape": list(array.shape),
        "datatype": NAMES[array.dtype.str[1:]],
        "parameters": {"binary_data_size": array.nbytes},
    }


async def infer(client: AsyncClient, *inputs: Json, **fields: Any) -> Response:
    """Post a request of JSON alone."""
    return await client.post(INFER_PATH, json={"inputs": list(inputs)} | fields)


async def infer_binary(
    client: AsyncClient,
    arrays: dict[str, NDArray[Any]],
    headers: dict[str, str] | None = None,
    **fields: Any,
) -> Response:
    """Post a request of binary tensors."""
    inputs = [binary_input(array, name) for name, array in arrays.items()]
    head = json.dumps({"inputs": inputs} | fields).encode()
    body = head + b"".join(array.tobytes() for array in arrays.values())
    return await client.post(
        INFER_PATH, content=body, headers={HEADER: str(len(head))} | (headers or {})
    )


def read_outputs(answer: Response) -> dict[str, NDArray[Any]]:
    """Read an answer of either form; null is NaN."""
    assert answer.status_code == 200, answer.text
    length = int(answer.headers.get(HEADER, len(answer.content)))
    start, outputs = length, {}
    dtypes = {name: np.dtype(code) for code, name in NAMES.items()}
    for output in json.loads(answer.content[:length])["outputs"]:
        dtype, shape = dtypes[output["datatype"]], output["shape"]
        if "data" in output:
            array = np.array(output["data"], dtype)
        else:
            stop = start + output["parameters"]["binary_data_size"]
            array = np.frombuffer(answer.content[start:stop], dtype)
            start = stop
        outputs[output["name"]] = array.reshape(shape)
    assert start == len(answer.content)
    return outputs
