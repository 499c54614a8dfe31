"""Small models that classify, regress and tag: real LSTM graphs, built node by node and sealed."""

from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from app.artifact.golden_case import GoldenCase
from app.artifact.metadata import to_metadata
from app.artifact.seal import seal
from app.artifact.sequence_card import SequenceCard, SequenceTask
from app.artifact.specs import TensorSpec
from app.tensors import Tensors
from tests.fakes import make_sequence_card

HIDDEN_SIZE = 4
_KINDS = {"FP32": TensorProto.FLOAT, "INT32": TensorProto.INT32}


@cache
def tiny_sequence_model(task: SequenceTask, features: tuple[str, ...] = ("load", "heat")) -> bytes:
    """Return the sealed artifact of ``make_sequence_card``, with made-up weights."""
    card = make_sequence_card(task, features=features)
    plain = _build(card)
    session = ort.InferenceSession(plain.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = make_sequences(card, [5, 2, 3])
    names = [spec.name for spec in card.outputs]
    outputs = dict(zip(names, session.run(names, inputs), strict=True))
    helper.set_model_props(plain, to_metadata(card, GoldenCase.from_tensors(inputs, outputs)))
    return seal(plain.SerializeToString())


def make_sequences(card: SequenceCard, lengths: list[int], seed: int = 0) -> Tensors:
    """Return sequences of these lengths, some of their values missing."""
    random = np.random.default_rng(seed)
    shape = (len(lengths), max(lengths), len(card.features))
    sequence = random.normal(size=shape).astype(np.float32)
    sequence[random.random(shape) < 0.2] = np.nan
    return {"sequence": sequence, "sequence_lens": np.array(lengths, np.int32)}


def _build(card: SequenceCard) -> onnx.ModelProto:
    """Read zeros where a value is missing; answer from the last step, or from each step."""
    is_tagger, is_regressor = card.task == "tag", card.task == "regress"
    output = card.outputs[0].name
    nodes = [
        helper.make_node("IsNaN", ["sequence"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "sequence"], ["known"]),
        helper.make_node("Transpose", ["known"], ["steps"], perm=[1, 0, 2]),
        helper.make_node(
            "LSTM",
            ["steps", "W", "R", "", "sequence_lens"],
            ["Y", "Y_h"],
            hidden_size=HIDDEN_SIZE,
        ),
        helper.make_node("Squeeze", ["Y" if is_tagger else "Y_h", "directions"], ["hidden"]),
    ]
    if is_tagger:
        nodes.append(helper.make_node("Transpose", ["hidden"], ["by_row"], perm=[1, 0, 2]))
    last = "by_row" if is_tagger else "hidden"
    nodes.append(helper.make_node("MatMul", [last, "head"], [output if is_regressor else "logits"]))
    if not is_regressor:
        nodes.append(helper.make_node("Softmax", ["logits"], [output], axis=-1))
    graph = helper.make_graph(
        nodes,
        "sequence",
        [_declare(spec) for spec in card.inputs],
        [_declare(spec) for spec in card.outputs],
        [numpy_helper.from_array(array, name) for name, array in _constants(card).items()],
    )
    opsets = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, producer_name="gatecast", opset_imports=opsets, ir_version=10)


def _constants(card: SequenceCard) -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(3)
    shapes = {
        "W": (1, 4 * HIDDEN_SIZE, len(card.features)),
        "R": (1, 4 * HIDDEN_SIZE, HIDDEN_SIZE),
        "head": (HIDDEN_SIZE, len(card.classes or card.targets)),
    }
    weights = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    directions = np.array([1 if card.task == "tag" else 0], np.int64)
    return weights | {"zero": np.array(0, np.float32), "directions": directions}


def _declare(spec: TensorSpec) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(spec.name, _KINDS[spec.datatype], list(spec.shape))
