"""What a forecaster is in the Open Inference Protocol v2: its tensors, config and statistics."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.artifact import Card, StateSpec, TensorSpec
from app.errors import InvalidInputError
from app.gateway.catalog import ReadyModel, ServedModel
from app.gateway.oip_request import RequestedOutput, TensorRequest
from app.settings import Settings
from app.statistics import Duration, RunTimes, VersionStatistics
from app.tensors import NUMPY_DTYPES, Tensors

Json = dict[str, Any]

PLATFORM = "onnxruntime_onnx"
SEQUENCE_LENS = "sequence_lens"

_MAX_NAME_LENGTH = 64
_INT32 = np.iinfo(np.int32)


def metadata(model: ReadyModel, served: ServedModel) -> Json:
    """Describe the tensors of a version; -1 stands for any size, the batch included."""
    card = model.card
    return {
        "name": model.model_name,
        "versions": [str(v.model_version) for v in served.versions if v.card is not None],
        "platform": PLATFORM,
        "inputs": [_tensor_metadata(spec) for spec in input_specs(card)],
        "outputs": [_tensor_metadata(spec) for spec in output_specs(card)],
    }


def config(model: ReadyModel, settings: Settings) -> Json:
    """Describe how a version is run, in the words of Triton's model configuration."""
    required = {spec.name for spec in _required(model.card)}
    delay = round(settings.max_queue_delay_ms * 1000)
    inputs = [
        _tensor_config(spec) | {"optional": spec.name not in required}
        for spec in input_specs(model.card)
    ]
    return {
        "name": model.model_name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": settings.max_batch_size,
        "input": inputs,
        "output": [_tensor_config(spec) for spec in output_specs(model.card)],
        "dynamic_batching": {"preferred_batch_size": [], "max_queue_delay_microseconds": delay},
        "model_transaction_policy": {"decoupled": False},
        "response_cache": {"enable": False},
    }


def statistics(found: VersionStatistics) -> Json:
    """Write the statistics of one version; nothing is cached, so those counts stay 0."""
    return {
        "name": found.model_name,
        "version": str(found.model_version),
        "last_inference": found.last_inference_ms,
        "inference_count": found.inference_count,
        "execution_count": found.execution_count,
        "inference_stats": {
            "success": _duration(found.success),
            "fail": _duration(found.fail),
            "queue": _duration(found.queue),
            **_run_times(found.requests),
            "cache_hit": _duration(Duration()),
            "cache_miss": _duration(Duration()),
        },
        "batch_stats": [
            {"batch_size": rows, **_run_times(times)}
            for rows, times in sorted(found.batches.items())
        ],
    }


def input_specs(card: Card) -> list[TensorSpec]:
    """List all inputs, states included, as they may be given."""
    return [*card.inputs, *(_state_spec(state, state.name) for state in card.states)]


def output_specs(card: Card) -> list[TensorSpec]:
    """List all outputs, states included."""
    return [*card.outputs, *(_state_spec(state, state.next_name) for state in card.states)]


def raw_input(card: Card) -> TensorSpec:
    """Return the input that a raw request stands for: the only one that must be given.

    Raises:
        InvalidInputError: There are several.
    """
    required = _required(card)
    if len(required) != 1:
        names = ", ".join(spec.name for spec in required)
        raise InvalidInputError(f"a raw request needs a model of one input; this one has {names}")
    return required[0]


def fit_inputs(inputs: Tensors, card: Card) -> Tensors:
    """Check what all rows share, and fill in ``sequence_lens`` where every row is of full length.

    The values are checked where they are run.

    Raises:
        InvalidInputError: A tensor is missing, unknown or of the wrong type, or the batch differs.
    """
    specs = {spec.name: spec for spec in input_specs(card)}
    if unknown := inputs.keys() - specs.keys():
        name = min(unknown)[:_MAX_NAME_LENGTH]
        raise InvalidInputError(f"the model has no input {name}; it has {', '.join(specs)}")
    if missing := [spec.name for spec in _required(card) if spec.name not in inputs]:
        raise InvalidInputError(f"input {missing[0]} is missing")
    fitted = {name: _fit(array, specs[name]) for name, array in inputs.items()}
    past_target = fitted["past_target"]
    for name, array in fitted.items():
        if len(array) != len(past_target):
            raise InvalidInputError(f"input {name}: dimension batch must be {len(past_target)}")
    if SEQUENCE_LENS in specs and SEQUENCE_LENS not in fitted:
        fitted[SEQUENCE_LENS] = np.full(len(past_target), past_target.shape[1], np.int32)
    return fitted


def wanted_outputs(request: TensorRequest, card: Card) -> tuple[RequestedOutput, ...]:
    """Return the outputs that a request wants; all of them where it names none.

    Raises:
        InvalidInputError: It names one that the model does not have.
    """
    names = [spec.name for spec in output_specs(card)]
    for output in request.outputs:
        if output.name not in names:
            name = output.name[:_MAX_NAME_LENGTH]
            raise InvalidInputError(f"the model has no output {name}; it has {', '.join(names)}")
    everything = tuple(RequestedOutput(name, request.is_binary) for name in names)
    return request.outputs or everything


def _required(card: Card) -> list[TensorSpec]:
    return [spec for spec in card.inputs if spec.name != SEQUENCE_LENS]


def _state_spec(state: StateSpec, name: str) -> TensorSpec:
    return TensorSpec(name=name, datatype=state.datatype, shape=("batch", *state.shape))


def _fit(array: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    if array.ndim == 2 and array.shape[1] == len(spec.shape) == 1:  # noqa: PLR2004
        array = array[:, 0]  # one number for each row, as Triton's clients write it
    if array.ndim != len(spec.shape):
        raise InvalidInputError(f"input {spec.name} must have {len(spec.shape)} dimensions")
    if not array.size:
        raise InvalidInputError(f"input {spec.name} must not be empty")
    if array.dtype == NUMPY_DTYPES[spec.datatype]:
        return array
    is_narrowed = spec.datatype == "INT32" and array.dtype == np.int64
    if is_narrowed and array.min() >= _INT32.min and array.max() <= _INT32.max:
        return array.astype(np.int32)
    raise InvalidInputError(f"input {spec.name} must be {spec.datatype}")


def _sizes(shape: Sequence[int | str]) -> list[int]:
    """Return sizes, batch first; clients of Triton can not write a row that has none."""
    return [-1, *(size if isinstance(size, int) else -1 for size in shape[1:] or (1,))]


def _tensor_metadata(spec: TensorSpec) -> Json:
    return {"name": spec.name, "datatype": spec.datatype, "shape": _sizes(spec.shape)}


def _tensor_config(spec: TensorSpec) -> Json:
    return {
        "name": spec.name,
        "data_type": f"TYPE_{spec.datatype}",
        "dims": _sizes(spec.shape)[1:],
        **({} if spec.shape[1:] else {"reshape": {"shape": []}}),
    }


def _duration(duration: Duration) -> Json:
    return {"count": duration.count, "ns": duration.ns}


def _run_times(times: RunTimes) -> Json:
    return {
        "compute_input": _duration(times.compute_input),
        "compute_infer": _duration(times.compute_infer),
        "compute_output": _duration(times.compute_output),
    }
