"""What is found out about model files without a card."""

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from app.errors import ArtifactError
from app.interface import Interface, State
from app.runner.engine import OrtEngine
from app.runner.loading import load_engine
from tests.hostile_models import make_model, node, recurrent, to_bytes
from tests.plain_models import identity_model, lstm_model, mixing_model
from tests.tiny_artifact import tiny_artifact

UNNAMED: dict[str, Any] = {"sizes": (None, None)}


def find(model: bytes) -> Interface:
    return load_engine(model, "cpu").interface


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sizes": ("s0", "s1")},
        {"sizes": ("s1", "s0")},
        UNNAMED,
        UNNAMED | {"has_states": False},
        UNNAMED | {"names": ("series", "n", "h0", "c0", "output", "hn", "cn")},
    ],
    ids=str,
)
def test_rows_and_steps_are_told_apart(options: dict[str, Any]) -> None:
    interface = find(lstm_model(**options))
    assert interface.is_mergeable
    assert interface.inputs[0].shape == ("time", "batch", 3)
    assert interface.inputs[1].name == interface.lengths
    shapes = [spec.shape for spec in interface.outputs]
    assert shapes == [("time", 1, "batch", 4), (1, "batch", 4), (1, "batch", 4)]


@pytest.mark.parametrize("options", [{}, UNNAMED], ids=str)
def test_batch_may_stand_on_another_axis_in_every_tensor(options: dict[str, Any]) -> None:
    interface = find(lstm_model(is_batch_first=True, **options))
    assert interface.inputs[0].shape == ("batch", "time", 3)
    assert interface.outputs[0].shape == ("batch", "time", 1, 4)
    assert interface.outputs[1].shape == (1, "batch", 4)
    assert interface.lengths == "sequence_lens"


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        (("initial_h", "initial_c"), ("Y_h", "Y_c")),
        (("hidden_state", "cell_state"), ("next_hidden_state", "next_cell_state")),
        (("h_in", "c_in"), ("h_out", "c_out")),
        (("h0", "c0"), ("hn", "cn")),
        (("h_0", "c_0"), ("h_n", "c_n")),
        (("initial_h", "initial_c"), ("final_h", "final_c")),
        (("h", "c"), ("h_out", "c_out")),
    ],
    ids=str,
)
def test_states_are_paired_by_their_names(
    inputs: tuple[str, str], outputs: tuple[str, str]
) -> None:
    model = lstm_model(names=("X", "lengths", *inputs, "Y", *outputs))
    assert find(model).states == tuple(map(State, inputs, outputs))


def test_names_that_do_not_pair_are_no_states() -> None:
    model = lstm_model(names=("X", "lengths", "left", "right", "Y", "up", "down"))
    interface = find(model)
    assert interface.states == ()
    assert {"left", "right"} <= {spec.name for spec in interface.required_inputs}


def test_without_lengths_only_equal_shapes_share_a_run() -> None:
    interface = find(lstm_model(has_lengths=False))
    assert (interface.is_mergeable, interface.lengths) == (True, None)


def test_model_that_mixes_its_rows_is_never_merged() -> None:
    assert not find(mixing_model()).is_mergeable


def test_model_without_a_batch_is_never_merged() -> None:
    interface = find(identity_model(shape=(1, 2)))
    assert not interface.is_mergeable
    assert interface.inputs[0].shape == (1, 2)


@pytest.mark.parametrize(
    ("kind", "datatype"),
    [
        (TensorProto.BOOL, "BOOL"),
        (TensorProto.UINT8, "UINT8"),
        (TensorProto.INT16, "INT16"),
        (TensorProto.FLOAT16, "FP16"),
        (TensorProto.DOUBLE, "FP64"),
        (TensorProto.STRING, "BYTES"),
    ],
)
def test_every_type_is_tried(kind: int, datatype: str) -> None:
    interface = find(identity_model(kind))
    assert (interface.inputs[0].datatype, interface.is_mergeable) == (datatype, True)


def test_type_that_is_not_served_is_named() -> None:
    with pytest.raises(ArtifactError, match=r"type tensor\(bfloat16\)"):
        find(identity_model(TensorProto.BFLOAT16))


def test_model_that_runs_on_nothing_is_refused() -> None:
    with pytest.raises(ArtifactError, match=r"no made-up numbers: .* Input W must have shape"):
        find(to_bytes(recurrent("LSTM", 4, W=(1, 4, 2))))


def test_model_that_needs_more_steps_than_a_trial_has_is_served() -> None:
    nodes = [
        node("Unsqueeze", "x one", "u"),
        node("Conv", "u w", "v"),
        node("Squeeze", "v one", "y"),
    ]
    constants = {"one": np.array([1]), "w": np.ones((1, 1, 8), np.float32)}
    interface = find(to_bytes(make_model(nodes, constants=constants, columns="time")))
    assert not interface.is_mergeable


def test_interface_travels_as_json() -> None:
    interface = find(lstm_model())
    assert Interface.from_json(interface.to_json()) == interface


def test_artifact_without_its_metadata_is_not_a_plain_model() -> None:
    model = tiny_artifact()
    graph_alone = model[: model.index(b"gatecast.card") - 64]
    for size in range(len(graph_alone), len(graph_alone) + 64):
        with pytest.raises(ArtifactError):
            OrtEngine.from_bytes(model[:size], "cpu")


def test_plain_model_has_neither_card_nor_golden_case() -> None:
    engine = OrtEngine.from_bytes(identity_model(), "cpu")
    assert engine.any_card is None
    with pytest.raises(ArtifactError, match="no card"):
        _ = engine.card
    with pytest.raises(ArtifactError, match="no golden case"):
        engine.check_golden_case()
