"""From a PyTorch network to one ONNX graph that says the same."""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import onnx
import onnx_ir
import torch
from onnx_ir.passes import common as graph_passes
from torch import Tensor, nn
from torch.export import Dim
from typing_extensions import override

from app.artifact.specs import TensorSpec
from app.errors import ArtifactError
from export.interface import BATCH, TIME, TIME_AND_HORIZON, graph_inputs, graph_outputs
from export.origin import forget_origin
from export.twin import TRANSLATIONS, to_twin
from models.forecaster import Forecaster

OPSET = 20
"""The oldest set of operators with Gelu; ONNX Runtime has all of it on the CPU and on CUDA."""

_TORCH_TYPES = {"FP32": torch.float32, "FP64": torch.float64, "INT32": torch.int32}
_EXAMPLE_BATCH, _EXAMPLE_TIME = 3, 5
_EXPECTED_WARNINGS = (
    r"# The axis name: .* will not be used",
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
)


class _Positional(nn.Module):
    """The network with its tensors in the order of the graph, which has no dictionaries."""

    def __init__(
        self, network: nn.Module, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
    ) -> None:
        super().__init__()
        self.network = network
        self.input_names = [spec.name for spec in inputs]
        self.output_names = [spec.name for spec in outputs]

    @override
    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs = self.network(dict(zip(self.input_names, inputs, strict=True)))
        return tuple(outputs[name] for name in self.output_names)


def to_onnx(network: Forecaster, metadata: Mapping[str, str] | None = None) -> onnx.ModelProto:
    """Write a forecaster as ``write_graph`` does; the horizon of its inputs follows their time.

    Args:
        network: The forecaster; it is copied, not changed.
        metadata: What to write into the model, in this order.

    Raises:
        ArtifactError: The exporter fixed a dimension that has to stay free.
    """
    config = network.config
    specs = graph_inputs(config), graph_outputs(config)
    return write_graph(network, *specs, metadata, horizon=config.horizon)


def write_graph(
    network: nn.Module,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    metadata: Mapping[str, str] | None = None,
    *,
    horizon: int = 0,
) -> onnx.ModelProto:
    """Write ``network`` as a graph with free ``batch`` and ``time``, weights inside.

    Each recurrent layer is one ``LSTM`` or ``GRU`` node. The same weights give the same bytes, and
    nothing in them tells the machine, the folder or the source lines they came from.

    Args:
        network: Takes and gives tensors by name; it is copied, not changed.
        inputs: Its inputs, in the order of the graph.
        outputs: Likewise.
        metadata: What to write into the model, in this order.
        horizon: Steps of ``time+horizon`` beyond ``time``.

    Raises:
        ArtifactError: The exporter fixed a dimension that has to stay free.
    """
    positional = _Positional(to_twin(network), inputs, outputs).eval()
    with _quiet_exporter(), torch.inference_mode():
        program = torch.onnx.export(
            positional,
            tuple(_example(spec, horizon) for spec in inputs),
            dynamo=True,
            opset_version=OPSET,
            input_names=positional.input_names,
            output_names=positional.output_names,
            dynamic_shapes=(tuple(_free_dimensions(spec, horizon) for spec in inputs),),
            custom_translation_table=TRANSLATIONS,
            verbose=False,
        )
    if program is None:
        raise ArtifactError("the exporter gave no model")
    model = _to_proto(program.model)
    forget_origin(model)
    _declare(model.graph, [*inputs, *outputs])
    onnx.helper.set_model_props(model, dict(metadata or {}))
    return model


def to_bytes(model: onnx.ModelProto) -> bytes:
    """Serialise ``model``, always in the same order."""
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message in _EXPECTED_WARNINGS:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        logger.setLevel(level)


def _example(spec: TensorSpec, horizon: int) -> Tensor:
    sizes = {
        BATCH: _EXAMPLE_BATCH,
        TIME: _EXAMPLE_TIME,
        TIME_AND_HORIZON: _EXAMPLE_TIME + horizon,
    }
    shape = [sizes[size] if isinstance(size, str) else size for size in spec.shape]
    return torch.ones(shape, dtype=_TORCH_TYPES[spec.datatype])


def _free_dimensions(spec: TensorSpec, horizon: int) -> dict[int, Dim]:
    time = Dim(TIME)
    free = {BATCH: Dim(BATCH), TIME: time, TIME_AND_HORIZON: time + horizon}
    return {axis: free[size] for axis, size in enumerate(spec.shape) if isinstance(size, str)}


def _to_proto(model: onnx_ir.Model) -> onnx.ModelProto:
    for simplify in (
        graph_passes.CommonSubexpressionEliminationPass(),
        graph_passes.DeduplicateInitializersPass(),
        graph_passes.RemoveUnusedNodesPass(),
        graph_passes.RemoveUnusedOpsetsPass(),
    ):
        simplify(model)
    return onnx_ir.to_proto(model)


def _declare(graph: onnx.GraphProto, specs: Sequence[TensorSpec]) -> None:
    """Check the free dimensions and give them their names."""
    values = [*graph.input, *graph.output]
    for value, spec in zip(values, specs, strict=True):
        dimensions = value.type.tensor_type.shape.dim
        for dimension, size in zip(dimensions, spec.shape, strict=True):
            is_free = dimension.WhichOneof("value") == "dim_param"
            if value.name != spec.name or is_free != isinstance(size, str):
                raise ArtifactError(f"the exporter did not keep {spec.name} of shape {spec.shape}")
            if isinstance(size, str):
                dimension.dim_param = size
