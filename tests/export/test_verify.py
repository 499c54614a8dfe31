import math
from collections.abc import Callable

import onnx
import pytest
from onnx import TensorProto, helper

from export.figures import Figure, Verification
from export.structure import (
    count_external_tensors,
    count_foreign_operators,
    count_loops,
    count_machine_facts,
    count_recurrent_faults,
    count_shape_faults,
    load_graph,
)
from export.verify import verify
from tests.export.exported import Exported


def test_sound_artifact_passes(verification: Verification) -> None:
    assert verification.failures == ()


def test_forecasts_of_series_alone_are_bit_equal(verification: Verification) -> None:
    assert "64 bit-equal" in verification["one series alone against in a batch"].remark


def test_without_a_checkpoint_the_golden_case_stands_for_pytorch(exported: Exported) -> None:
    names = [figure.name for figure in verify(exported.model).figures]

    assert "golden case" in names
    assert "forecasts against PyTorch" not in names


def test_figure_that_is_not_a_number_fails() -> None:
    assert not Figure("error", math.nan, limit=1.0).passed


def test_figure_without_a_limit_informs() -> None:
    assert Figure("memory", math.inf).passed


@pytest.fixture
def graph(exported: Exported) -> onnx.ModelProto:
    return load_graph(exported.model)


def test_missing_lengths_of_a_recurrent_node_count(
    graph: onnx.ModelProto, exported: Exported
) -> None:
    node = next(node for node in graph.graph.node if node.op_type == "LSTM")
    node.input[4] = ""

    assert count_recurrent_faults(graph, exported.engine.card) == 2


def test_missing_recurrent_node_counts(graph: onnx.ModelProto, exported: Exported) -> None:
    node = next(node for node in graph.graph.node if node.op_type == "LSTM")
    graph.graph.node.remove(node)

    assert count_recurrent_faults(graph, exported.engine.card) == 1


def test_loop_counts(graph: onnx.ModelProto) -> None:
    graph.graph.node.append(helper.make_node("Loop", [], ["endless"]))

    assert count_loops(graph) == 1


def test_foreign_operator_counts(graph: onnx.ModelProto) -> None:
    graph.graph.node.append(helper.make_node("Gelu", [], ["y"], domain="com.microsoft"))

    assert count_foreign_operators(graph) == 1


def test_tensor_in_another_file_counts(graph: onnx.ModelProto) -> None:
    graph.graph.initializer[0].data_location = TensorProto.EXTERNAL

    assert count_external_tensors(graph) == 1


def test_fixed_time_counts(graph: onnx.ModelProto, exported: Exported) -> None:
    past_target = next(value for value in graph.graph.input if value.name == "past_target")
    past_target.type.tensor_type.shape.dim[1].dim_value = 17

    assert count_shape_faults(graph, exported.engine.card) == 2


def _name_a_source_file(graph: onnx.ModelProto) -> None:
    graph.graph.node[0].doc_string = 'File "network.py", line 7'


def _name_a_folder(graph: onnx.ModelProto) -> None:
    graph.doc_string = f"{onnx.__file__.rpartition('onnx')[0]}torch"


@pytest.mark.parametrize("tell", [_name_a_source_file, _name_a_folder])
def test_trace_of_the_machine_counts(
    graph: onnx.ModelProto, tell: Callable[[onnx.ModelProto], None]
) -> None:
    tell(graph)

    assert count_machine_facts(graph) >= 1
