"""Takes out of an ONNX model whatever tells where, how and in which order it was made.

The exporter writes the source paths and stack traces of the training machine to every node, and
names that count what else the process traced.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import onnx

PRODUCER = "gatecast"


def forget_origin(model: onnx.ModelProto) -> None:
    """Remove metadata, doc strings and inner shapes; name nodes by operator and number."""
    graph = model.graph
    model.producer_name = PRODUCER
    model.ClearField("producer_version")
    model.ClearField("domain")
    model.ClearField("model_version")
    model.ClearField("doc_string")
    model.ClearField("metadata_props")
    graph.name = PRODUCER
    graph.ClearField("doc_string")
    graph.ClearField("metadata_props")
    graph.ClearField("value_info")
    graph.ClearField("quantization_annotation")
    _strip(graph.node)
    _strip(graph.initializer)
    _strip(graph.input)
    _strip(graph.output)
    _rename(graph)


def _strip(parts: Iterable[Any]) -> None:
    for part in parts:
        part.ClearField("doc_string")
        part.ClearField("metadata_props")


def _rename(graph: onnx.GraphProto) -> None:
    names = {value.name: value.name for value in [*graph.input, *graph.output]} | {"": ""}
    for number, initializer in enumerate(graph.initializer):
        names[initializer.name] = f"constant_{number}"
        initializer.name = names[initializer.name]
    numbers: Counter[str] = Counter()
    for node in graph.node:
        node.name = f"{node.op_type}_{numbers[node.op_type]}"
        numbers[node.op_type] += 1
        for position, output in enumerate(node.output):
            names.setdefault(output, f"{node.name}:{position}")
    for node in graph.node:
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
