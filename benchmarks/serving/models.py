"""Builds the model that every server is asked to run: two LSTM layers and a linear head.

Real ``LSTM`` nodes, random weights, no metadata. ``history`` FP32 ``(batch, time, 1)`` and
``sequence_lens`` INT32 ``(batch,)`` in, ``forecast`` FP32 ``(batch, 24, 3)`` out.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

HORIZON = 24
NUM_QUANTILES = 3
NUM_LAYERS = 2

_OPSET = 17
_IR_VERSION = 8


def lstm_model(hidden_size: int, *, has_lengths: bool, seed: int = 0) -> bytes:
    """Return the file; one without lengths can only merge requests of equal length."""
    random = np.random.default_rng(seed)
    constants: dict[str, NDArray[Any]] = {
        "no_direction": np.array([1], np.int64),
        "no_layer": np.array([0], np.int64),
        "answer": np.array([-1, HORIZON, NUM_QUANTILES], np.int64),
    }
    nodes = [helper.make_node("Transpose", ["history"], ["x0"], perm=[1, 0, 2])]
    for layer in range(NUM_LAYERS):
        constants |= _layer_weights(layer, hidden_size, random)
        nodes += _layer_nodes(layer, hidden_size, "sequence_lens" if has_lengths else "")
    constants["head"] = _uniform(random, hidden_size, (HORIZON * NUM_QUANTILES, hidden_size))
    nodes += [
        helper.make_node("Squeeze", [f"last{NUM_LAYERS - 1}", "no_layer"], ["last"]),
        helper.make_node("Gemm", ["last", "head"], ["flat"], transB=1),
        helper.make_node("Reshape", ["flat", "answer"], ["forecast"]),
    ]
    inputs = [_declare("history", TensorProto.FLOAT, ("batch", "time", 1))]
    if has_lengths:
        inputs.append(_declare("sequence_lens", TensorProto.INT32, ("batch",)))
    outputs = [_declare("forecast", TensorProto.FLOAT, ("batch", HORIZON, NUM_QUANTILES))]
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "lstm", inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _layer_weights(
    layer: int, hidden_size: int, random: np.random.Generator
) -> dict[str, NDArray[Any]]:
    input_size = hidden_size if layer else 1
    shapes = {"W": input_size, "R": hidden_size}
    weights = {
        f"{name}{layer}": _uniform(random, hidden_size, (1, 4 * hidden_size, size))
        for name, size in shapes.items()
    }
    return weights | {f"B{layer}": _uniform(random, hidden_size, (1, 8 * hidden_size))}


def _layer_nodes(layer: int, hidden_size: int, lengths: str) -> list[onnx.NodeProto]:
    operands = [f"{name}{layer}" for name in ("x", "W", "R", "B")]
    results = [f"y{layer}", f"last{layer}"]
    return [
        helper.make_node("LSTM", [*operands, lengths], results, hidden_size=hidden_size),
        helper.make_node("Squeeze", [f"y{layer}", "no_direction"], [f"x{layer + 1}"]),
    ]


def _uniform(
    random: np.random.Generator, hidden_size: int, shape: Sequence[int]
) -> NDArray[np.float32]:
    bound = hidden_size**-0.5
    return random.uniform(-bound, bound, shape).astype(np.float32)


def _declare(name: str, kind: int, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))
