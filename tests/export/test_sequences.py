from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from app.artifact.sequence_card import SequenceCard
from app.errors import InvalidInputError
from app.runner.engine import OrtEngine
from app.tensors import Tensors
from export.commands import export, verify
from export.figures import Verification
from export.sequence_verify import verify_sequences
from export.sequences import to_sequence_artifact
from export.structure import load_graph
from models.sequences.checkpoint import SequenceCheckpoint, save_sequence_checkpoint
from tests.sequence_models import FEATURES, untrained

POOLINGS = ("last", "mean", "max", "attention")
CASES: dict[str, dict[str, Any]] = {
    "regress": {"task": "regress", "cell": "gru", "pooling": "attention", "num_members": 2},
    "tag": {"task": "tag", "num_layers": 2},
}
MORE_CASES: dict[str, dict[str, Any]] = {
    f"{cell}-{pooling}-{'both' if is_bidirectional else 'forwards'}": {
        "task": "classify",
        "cell": cell,
        "pooling": pooling,
        "is_bidirectional": is_bidirectional,
        "num_members": 2 if is_bidirectional else 1,
    }
    for cell in ("lstm", "gru")
    for pooling in POOLINGS
    for is_bidirectional in (True, False)
}


@cache
def exported(name: str) -> tuple[SequenceCheckpoint, bytes, Verification]:
    checkpoint = untrained(**CASES[name])
    model = to_sequence_artifact(checkpoint)
    return checkpoint, model, verify_sequences(model, checkpoint)


@pytest.mark.parametrize("name", CASES)
def test_file_says_what_the_network_says(name: str) -> None:
    verification = exported(name)[2]
    assert verification.failures == ()
    assert verification["answers against PyTorch"].limit == 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE_CASES)
def test_every_shape_of_network_is_exported(name: str) -> None:
    checkpoint = untrained(**MORE_CASES[name])
    assert verify_sequences(to_sequence_artifact(checkpoint), checkpoint).failures == ()


def test_bidirectional_layer_is_one_node() -> None:
    graph = load_graph(exported("tag")[1]).graph
    nodes = [node for node in graph.node if node.op_type == "LSTM"]
    directions = [part.s for node in nodes for part in node.attribute if part.name == "direction"]
    assert directions == [b"bidirectional", b"bidirectional"]


def test_members_are_layers_of_one_file() -> None:
    _, model, _ = exported("regress")
    nodes = [node for node in load_graph(model).graph.node if node.op_type == "GRU"]
    card = OrtEngine.from_bytes(model, "cpu").sequence_card
    assert len(nodes) == card.num_members * card.num_layers == 2


def test_card_tells_what_the_service_needs() -> None:
    card = OrtEngine.from_bytes(exported("tag")[1], "cpu").sequence_card
    assert (card.task, card.classes, card.features) == ("tag", ("a", "b", "c"), FEATURES)
    assert (card.max_length, card.pooling, card.is_bidirectional) == (12, None, True)
    assert card.num_members == 1
    assert card.temperature == pytest.approx(1.7)


def test_regression_answers_in_units_of_the_targets() -> None:
    checkpoint, model, _ = exported("regress")
    inputs = OrtEngine.from_bytes(model, "cpu").golden_case.input_tensors()
    with torch.inference_mode():
        raw = checkpoint.network.score(_to_tensors(inputs)).numpy()
    values = OrtEngine.from_bytes(model, "cpu").run(inputs, ["values"])["values"]
    np.testing.assert_allclose(values, 50 + 8 * raw, rtol=1e-5, atol=1e-3)


def _to_tensors(inputs: Tensors) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array.copy()) for name, array in inputs.items()}


def test_other_weights_fail_verification() -> None:
    other = untrained(**CASES["tag"])
    other.network.list_members()[0].answer.weight.data.mul_(1.01)
    failures = verify_sequences(exported("tag")[1], other).failures
    assert {figure.name for figure in failures} == {
        "answers against PyTorch",
        "temperature of the card",
    }


def test_export_publishes_and_verify_accepts(tmp_path: Path) -> None:
    checkpoint, model, _ = exported("tag")
    save_sequence_checkpoint(checkpoint, tmp_path / "run")
    options = ["--name", "tags", "--model-repository", str(tmp_path / "models")]
    CliRunner().invoke(export, [str(tmp_path / "run"), *options], catch_exceptions=False)
    assert (tmp_path / "models/tags/1/model.onnx").read_bytes() == model

    result = CliRunner().invoke(verify, [str(tmp_path / "models/tags/1")], catch_exceptions=False)
    assert result.exit_code == 0
    assert "contents of the padding" in result.output


def test_verify_refuses_the_checkpoint_of_a_forecaster(
    tmp_path: Path, checkpoint_directory: Path
) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(exported("tag")[1])
    result = CliRunner().invoke(verify, [str(file), "--checkpoint", str(checkpoint_directory)])
    assert isinstance(result.exception, InvalidInputError)


def test_card_and_network_are_of_one_kind() -> None:
    assert isinstance(OrtEngine.from_bytes(exported("tag")[1], "cpu").any_card, SequenceCard)
