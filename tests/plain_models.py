"""Small ONNX models without a card, built node by node: as they come from other tools."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Size = int | str | None
Array = NDArray[np.float32]

HIDDEN_SIZE = 4
INPUT_SIZE = 3


def lstm_weights(seed: int = 0) -> dict[str, Array]:
    """Return weights by the names of PyTorch's state dictionary."""
    random = np.random.default_rng(seed)
    shapes = {
        "weight_ih_l0": (4 * HIDDEN_SIZE, INPUT_SIZE),
        "weight_hh_l0": (4 * HIDDEN_SIZE, HIDDEN_SIZE),
        "bias_ih_l0": (4 * HIDDEN_SIZE,),
        "bias_hh_l0": (4 * HIDDEN_SIZE,),
    }
    return {
        name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()
    }


def lstm_model(
    *,
    sizes: tuple[Size, Size] = ("time", "batch"),
    has_lengths: bool = True,
    has_states: bool = True,
    is_batch_first: bool = False,
    names: Sequence[str] = ("X", "sequence_lens", "initial_h", "initial_c", "Y", "Y_h", "Y_c"),
    seed: int = 0,
) -> bytes:
    """Return one LSTM layer; all its tensors are time-major unless ``is_batch_first``."""
    time, batch = sizes
    x, lengths, h0, c0, y, h, c = names
    nodes, operands = [], [x, "W", "R", "B", lengths if has_lengths else ""]
    state = (1, batch, HIDDEN_SIZE)
    shapes: dict[str, tuple[Size, ...]] = {
        x: (time, batch, INPUT_SIZE),
        y: (time, 1, batch, HIDDEN_SIZE),
        **dict.fromkeys((h, c), state),
    }
    if is_batch_first:
        shapes |= {x: (batch, time, INPUT_SIZE), y: (batch, time, 1, HIDDEN_SIZE)}
        nodes.append(helper.make_node("Transpose", [x], ["x"], perm=[1, 0, 2]))
        operands[0] = "x"
    inputs = [_declare(x, shapes[x])]
    if has_lengths:
        inputs.append(_declare(lengths, (batch,), TensorProto.INT32))
    if has_states:
        inputs += [_declare(name, state) for name in (h0, c0)]
        operands += [h0, c0]
    outputs = ["y" if is_batch_first else y, h, c]
    nodes.append(helper.make_node("LSTM", operands, outputs, hidden_size=HIDDEN_SIZE))
    if is_batch_first:
        nodes.append(helper.make_node("Transpose", ["y"], [y], perm=[2, 0, 1, 3]))
    declared = [_declare(name, shapes[name]) for name in (y, h, c)]
    return build(nodes, inputs, declared, _lstm_operands(lstm_weights(seed)))


def build(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: dict[str, NDArray[Any]] | None = None,
) -> bytes:
    """Return a model of some nodes."""
    tensors = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), "plain", list(inputs), list(outputs), tensors)
    opsets = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return bytes(model.SerializeToString())


def identity_model(kind: int = TensorProto.FLOAT, shape: Sequence[Size] = ("batch", 2)) -> bytes:
    """Return a model that gives back what it is given."""
    node = helper.make_node("Identity", ["x"], ["y"])
    return build([node], [_declare("x", shape, kind)], [_declare("y", shape, kind)])


def mixing_model(shape: Sequence[Size] = ("batch", 2)) -> bytes:
    """Return a model that takes from every row the mean over all rows."""
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    constants = {"axes": np.array([0], np.int64)}
    return build(nodes, [_declare("x", shape)], [_declare("y", shape)], constants)


def widening_model(row_bytes: int) -> bytes:
    """Return a model that needs ``row_bytes`` of memory, twice, to count each row's elements."""
    nodes = [
        helper.make_node("Expand", ["x", "shape"], ["wide"]),
        helper.make_node("Mul", ["wide", "wide"], ["squares"]),
        helper.make_node("ReduceSum", ["squares", "axes"], ["y"], keepdims=1),
    ]
    constants = {"shape": np.array([1, row_bytes // 4]), "axes": np.array([1])}
    shape = ("batch", 1)
    return build(nodes, [_declare("x", shape)], [_declare("y", shape)], constants)


def _declare(
    name: str, shape: Sequence[Size], kind: int = TensorProto.FLOAT
) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


def _lstm_operands(weights: dict[str, Array]) -> dict[str, Array]:
    def reorder(name: str) -> Array:  # from i, f, g, o to ONNX's i, o, f, c
        i, f, g, o = np.split(weights[name], 4)
        return np.concatenate([i, o, f, g])[None]

    biases = [reorder("bias_ih_l0"), reorder("bias_hh_l0")]
    return {
        "W": reorder("weight_ih_l0"),
        "R": reorder("weight_hh_l0"),
        "B": np.concatenate(biases, axis=1),
    }
