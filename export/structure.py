"""Counts what an artifact's graph must not hold, without running it."""

import tempfile
from collections import Counter
from pathlib import Path

import onnx

from app.artifact.card import Card
from app.artifact.metadata import GOLDEN_CASE_KEY, AnyCard

_LOOPS = frozenset({"Loop", "Scan", "If"})
_SOURCE_SUFFIX = b".py"


def load_graph(model: bytes) -> onnx.ModelProto:
    """Parse ``model`` without following references to other files."""
    return onnx.load_from_string(model)


def count_operators(model: onnx.ModelProto) -> Counter[str]:
    """Count the nodes of each operator."""
    return Counter(node.op_type for node in model.graph.node)


def count_recurrent_faults(model: onnx.ModelProto, card: AnyCard) -> int:
    """Count recurrent nodes too many or too few, and those unsound.

    A sound one has lengths and a first state, and reads in the directions that the card tells.
    """
    kind = card.cell.upper()
    nodes = [node for node in model.graph.node if node.op_type in {"LSTM", "GRU", "RNN"}]
    is_bidirectional = not isinstance(card, Card) and card.is_bidirectional
    num_operands = 7 if kind == "LSTM" else 6
    sound = [
        node
        for node in nodes
        if node.op_type == kind
        and len(node.input) == num_operands
        and all(node.input)
        and _direction(node) == (b"bidirectional" if is_bidirectional else b"forward")
    ]
    return len(nodes) - len(sound) + abs(card.num_members * card.num_layers - len(sound))


def count_loops(model: onnx.ModelProto) -> int:
    """Count nodes that could run without end, which serving never needs."""
    operators = count_operators(model)
    return sum(operators[kind] for kind in _LOOPS)


def count_foreign_operators(model: onnx.ModelProto) -> int:
    """Count nodes, functions and sets of operators outside ONNX's own."""
    nodes = sum(node.domain not in {"", "ai.onnx"} for node in model.graph.node)
    imports = sum(part.domain not in {"", "ai.onnx"} for part in model.opset_import)
    return nodes + imports + len(model.functions)


def count_external_tensors(model: onnx.ModelProto) -> int:
    """Count tensors whose numbers lie in another file."""
    return sum(
        tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer
    )


def count_shape_faults(model: onnx.ModelProto, card: AnyCard) -> int:
    """Count inputs and outputs that differ from the card in name or in which sizes are free."""
    states: list[tuple[int | str, ...]] = [("batch", *state.shape) for state in card.states]
    inputs = {spec.name: spec.shape for spec in card.inputs}
    inputs |= {state.name: shape for state, shape in zip(card.states, states, strict=True)}
    outputs = {spec.name: spec.shape for spec in card.outputs}
    outputs |= {state.next_name: shape for state, shape in zip(card.states, states, strict=True)}
    declared = [(value.name, _shape(value)) for value in (*model.graph.input, *model.graph.output)]
    return len(set(declared) ^ {*inputs.items(), *outputs.items()})


def count_machine_facts(model: onnx.ModelProto) -> int:
    """Count traces of the machine that made the file: source files and this machine's folders."""
    text = _without_numbers(model)
    folders = {Path.cwd(), Path.home(), Path(tempfile.gettempdir()), Path(onnx.__file__).parents[1]}
    traces = [str(folder).encode() for folder in folders if folder != Path(folder.anchor)]
    content = text.SerializeToString()
    return sum(content.count(trace) for trace in [*traces, _SOURCE_SUFFIX])


def _direction(node: onnx.NodeProto) -> bytes:
    return next((part.s for part in node.attribute if part.name == "direction"), b"forward")


def _without_numbers(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy without weights and golden case, which may spell anything by chance."""
    text = onnx.ModelProto()
    text.CopyFrom(model)
    for tensor in text.graph.initializer:
        tensor.ClearField("raw_data")
    for part in text.metadata_props:
        if part.key == GOLDEN_CASE_KEY:
            part.ClearField("value")
    return text


def _shape(value: onnx.ValueInfoProto) -> tuple[int | str, ...]:
    return tuple(
        dimension.dim_param or dimension.dim_value for dimension in value.type.tensor_type.shape.dim
    )
