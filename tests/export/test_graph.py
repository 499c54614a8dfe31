import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from app.artifact.card import Card
from app.artifact.metadata import load_card
from app.artifact.seal import UNSEALED_DIGEST, check_seal
from export.structure import load_graph
from export.twin import RecurrentTwin
from models.recurrent import RecurrentLayer
from tests.export.exported import Exported

_REPOSITORY = Path(__file__).parents[2]
_EXPORT_AND_PRINT_DIGEST = """
from app.artifact.seal import check_seal
from tests.tiny_artifact import tiny_artifact
print(check_seal(tiny_artifact()))
"""


def test_export_of_another_process_is_byte_identical(exported: Exported) -> None:
    environment = os.environ | {"PYTHONHASHSEED": "4711", "PYTHONPATH": str(_REPOSITORY)}

    run = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", _EXPORT_AND_PRINT_DIGEST],
        env=environment,
        cwd="/",
        capture_output=True,
        check=True,
        text=True,
    )

    assert run.stdout.strip() == check_seal(exported.model)


@pytest.mark.parametrize(
    "trace",
    [str(Path.cwd()), str(Path.home()), str(_REPOSITORY), "site-packages", "dist-packages", ".py"],
)
def test_nothing_tells_where_the_file_was_made(exported: Exported, trace: str) -> None:
    model = load_graph(exported.model)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")  # numbers may spell anything by chance

    assert trace.encode() not in model.SerializeToString()


def test_batch_and_time_are_free(exported: Exported) -> None:
    inputs = {value.name: value for value in load_graph(exported.model).graph.input}

    dimensions = inputs["past_target"].type.tensor_type.shape.dim

    assert [dimension.dim_param for dimension in dimensions] == ["batch", "time"]


def test_graph_is_sound_to_onnx(exported: Exported) -> None:
    onnx.checker.check_model(exported.model, full_check=True)


def test_seal_is_written(exported: Exported) -> None:
    assert UNSEALED_DIGEST not in check_seal(exported.model)


def test_card_describes_the_network(exported: Exported) -> None:
    properties = load_graph(exported.model).metadata_props
    config = exported.checkpoint.network.config

    card = load_card({part.key: part.value for part in properties})

    assert isinstance(card, Card)
    assert (card.cell, card.num_layers, card.horizon) == ("lstm", 2, config.horizon)


def test_export_leaves_the_network_alone(exported: Exported) -> None:
    kinds = {type(module) for module in exported.checkpoint.network.modules()}

    assert RecurrentLayer in kinds
    assert RecurrentTwin not in kinds
