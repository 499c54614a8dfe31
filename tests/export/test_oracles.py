from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from app.tensors import Tensors
from export.samples import make_samples
from export.structure import load_graph
from export.twin import RecurrentTwin
from models.recurrent import Cell, RecurrentLayer
from tests.export.exported import Exported, export_tiny
from tests.export.recurrent_oracles import Array, Weights, run_built_graph, run_equations

_INPUT_SIZE, _HIDDEN_SIZE = 5, 7
_LENGTHS = np.array([9, 1, 4, 9, 6], np.int32)

ABSOLUTE_LIMIT = 1e-6
"""Outputs of a cell lie within -1 and 1 and cell states near them; float32 has seven digits."""

_CELLS: list[Cell] = ["lstm", "gru"]

Oracle = Callable[[Weights, Array, NDArray[np.int32], list[Array]], list[Array]]


@pytest.fixture(params=_CELLS)
def layer(request: pytest.FixtureRequest) -> RecurrentLayer:
    torch.manual_seed(11)
    return RecurrentLayer(request.param, _INPUT_SIZE, _HIDDEN_SIZE).eval()


@pytest.fixture
def inputs() -> Array:
    shape = (int(_LENGTHS.max()), len(_LENGTHS), _INPUT_SIZE)
    return np.random.default_rng(12).normal(size=shape).astype(np.float32)


def _states(layer: RecurrentLayer) -> list[Array]:
    generator = np.random.default_rng(13)
    shape = (len(_LENGTHS), _HIDDEN_SIZE)
    num_states = 2 if layer.cell == "lstm" else 1
    return [generator.normal(size=shape).astype(np.float32) for _ in range(num_states)]


def _weights(rnn: nn.Module) -> Weights:
    return {name: value.numpy() for name, value in rnn.state_dict().items()}


def _run_module(module: nn.Module, inputs: Array, states: list[Array]) -> list[Array]:
    with torch.inference_mode():
        outputs, final = module(
            torch.from_numpy(inputs),
            torch.from_numpy(_LENGTHS),
            tuple(torch.from_numpy(state)[None] for state in states),
        )
    return [outputs.numpy(), *(state[0].numpy() for state in final)]


def _largest_difference(left: list[Array], right: list[Array]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(left, right, strict=True))


def test_equations_give_the_numbers_of_pytorch(layer: RecurrentLayer, inputs: Array) -> None:
    states = _states(layer)

    by_hand = run_equations(_weights(layer.rnn), inputs, _LENGTHS, states)

    assert _largest_difference(by_hand, _run_module(layer, inputs, states)) < ABSOLUTE_LIMIT


def test_equations_give_the_numbers_of_a_graph_built_by_hand(
    layer: RecurrentLayer, inputs: Array
) -> None:
    arguments = (_weights(layer.rnn), inputs, _LENGTHS, _states(layer))

    assert _largest_difference(run_equations(*arguments), run_built_graph(*arguments)) < (
        ABSOLUTE_LIMIT
    )


def test_twin_gives_the_numbers_of_the_layer(layer: RecurrentLayer, inputs: Array) -> None:
    states = _states(layer)

    twin = _run_module(RecurrentTwin(layer), inputs, states)

    assert _largest_difference(twin, _run_module(layer, inputs, states)) < ABSOLUTE_LIMIT


def test_twin_without_lengths_takes_every_step(layer: RecurrentLayer, inputs: Array) -> None:
    state = tuple(torch.from_numpy(part)[None] for part in _states(layer))
    series = torch.from_numpy(inputs)

    with torch.inference_mode():
        outputs, _ = RecurrentTwin(layer)(series, None, state)
        want, _ = layer(series, None, state)

    assert float((outputs - want).abs().max()) < ABSOLUTE_LIMIT


@pytest.mark.parametrize("oracle", [run_equations, run_built_graph])
@pytest.mark.parametrize("cell", _CELLS)
def test_exported_layers_give_the_numbers_of_the_oracles(cell: Cell, oracle: Oracle) -> None:
    gru = {"cell": "gru", "num_layers": 2, "transform": "log", "season": 1}
    exported = export_tiny() if cell == "lstm" else export_tiny(**gru)
    samples = make_samples(exported.engine.card, [30, 3, 17], seed=5)

    differences = [
        _largest_difference(
            oracle(layer.weights, layer.inputs, samples["sequence_lens"], layer.states),
            layer.outputs,
        )
        for layer in _watch_layers(exported, samples)
    ]

    assert len(differences) == 2
    assert max(differences) < ABSOLUTE_LIMIT


@dataclass(frozen=True)
class _Watched:
    """What went into one recurrent node of an exported graph, and what came out."""

    weights: Weights
    inputs: Array
    states: list[Array]
    outputs: list[Array]


def _watch_layers(exported: Exported, samples: Tensors) -> list[_Watched]:
    model = load_graph(exported.model)
    nodes = [node for node in model.graph.node if node.op_type in {"LSTM", "GRU"}]
    names = [name for node in nodes for name in (node.input[0], *node.input[5:], *node.output)]
    shown = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in names]
    model.graph.output.extend(shown)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    states = {state.name: state.initial_tensor(3) for state in exported.engine.card.states}
    modules = exported.checkpoint.network.modules()
    layers = [module for module in modules if isinstance(module, RecurrentLayer)]
    seen = dict(zip(names, session.run(names, samples | states), strict=True))
    return [
        _Watched(
            weights=_weights(layer.rnn),
            inputs=seen[node.input[0]],
            states=[seen[name][0] for name in node.input[5:]],
            outputs=[seen[node.output[0]][:, 0], *(seen[name][0] for name in node.output[1:])],
        )
        for node, layer in zip(nodes, layers, strict=True)
    ]
