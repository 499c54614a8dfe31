"""LSTM and GRU once more, independent of the exporter: from their equations, and by onnx.helper.

The LSTM is that of Hochreiter and Schmidhuber (1997), Long Short-Term Memory, Neural Computation
9(8), with the forget gate of Gers, Schmidhuber and Cummins (2000), Learning to Forget, Neural
Computation 12(10). The GRU is that of Cho et al. (2014), Learning Phrase Representations using RNN
Encoder-Decoder, arXiv 1406.1078, in cuDNN's variant, which PyTorch shares: the reset gate acts on
the recurrent product with its bias, after the multiplication.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[np.float32]
Weights = Mapping[str, Array]
"""As in the state dictionary of ``nn.LSTM`` and ``nn.GRU``."""


def lstm_step(weights: Weights, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    """Return ``h_t`` and ``c_t`` from ``x_t``, ``h_{t-1}`` and ``c_{t-1}``."""
    gates = _affine(weights, "ih", x) + _affine(weights, "hh", h)
    i, f, g, o = np.split(gates, 4, axis=-1)  # input, forget, cell, output
    cell = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    return _sigmoid(o) * np.tanh(cell), cell


def gru_step(weights: Weights, x: Array, h: Array) -> Array:
    """Return ``h_t`` from ``x_t`` and ``h_{t-1}``."""
    x_r, x_z, x_n = np.split(_affine(weights, "ih", x), 3, axis=-1)  # reset, update, new
    h_r, h_z, h_n = np.split(_affine(weights, "hh", h), 3, axis=-1)
    r, z = _sigmoid(x_r + h_r), _sigmoid(x_z + h_z)
    n = np.tanh(x_n + r * h_n)
    return (1 - z) * n + z * h


def run_equations(
    weights: Weights, inputs: Array, lengths: NDArray[np.int32], states: list[Array]
) -> list[Array]:
    """Run one layer step by step.

    Args:
        weights: Of a GRU where there is one state, of an LSTM where there are two.
        inputs: ``(time, batch, input_size)``.
        lengths: Valid steps of each row.
        states: Each ``(batch, hidden_size)``.

    Returns:
        Outputs ``(time, batch, hidden_size)``, zero past each length, and the final states.
    """
    outputs = []
    for step, x in enumerate(inputs):
        after = (
            lstm_step(weights, x, *states) if len(states) == 2 else [gru_step(weights, x, *states)]
        )
        live = (step < lengths)[:, None]
        states = [np.where(live, new, old) for new, old in zip(after, states, strict=True)]
        outputs.append(np.where(live, states[0], np.float32(0)))
    return [np.stack(outputs), *states]


def run_built_graph(
    weights: Weights, inputs: Array, lengths: NDArray[np.int32], states: list[Array]
) -> list[Array]:
    """Run one layer as an ONNX graph built straight from the state dictionary.

    Arguments and results are those of ``run_equations``.
    """
    names = ["initial_h", "initial_c"][: len(states)]
    feeds = {"X": inputs, "sequence_lens": lengths}
    feeds |= {name: state[None] for name, state in zip(names, states, strict=True)}
    outputs = ["Y", "Y_h", "Y_c"][: 1 + len(states)]
    kind = "LSTM" if len(states) == 2 else "GRU"
    attributes: dict[str, Any] = {"hidden_size": states[0].shape[-1]}
    if kind == "GRU":
        attributes["linear_before_reset"] = 1
    operands = ["X", "W", "R", "B", "sequence_lens", *names]
    node = helper.make_node(kind, operands, outputs, **attributes)
    graph = helper.make_graph(
        [node],
        "oracle",
        [_declare(name, array) for name, array in feeds.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in _operands(weights, kind).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    every_step, *final = session.run(None, feeds)
    return [every_step[:, 0], *(state[0] for state in final)]


def _operands(weights: Weights, kind: str) -> dict[str, Array]:
    order = "iofc" if kind == "LSTM" else "zrh"  # ONNX's order of gates
    found = dict(zip("ifco" if kind == "LSTM" else "rzh", range(4), strict=False))  # PyTorch's

    def reorder(name: str) -> Array:
        blocks = np.split(weights[name], len(order))
        return np.concatenate([blocks[found[gate]] for gate in order])[None]

    biases = [reorder("bias_ih_l0"), reorder("bias_hh_l0")]
    return {
        "W": reorder("weight_ih_l0"),
        "R": reorder("weight_hh_l0"),
        "B": np.concatenate(biases, axis=1),
    }


def _declare(name: str, array: NDArray[np.generic]) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    return helper.make_tensor_value_info(name, kind, array.shape)


def _affine(weights: Weights, part: str, values: Array) -> Array:
    product: Array = values @ weights[f"weight_{part}_l0"].T + weights[f"bias_{part}_l0"]
    return product


def _sigmoid(values: Array) -> Array:
    ones = np.ones_like(values)
    return ones / (ones + np.exp(-values))
