"""What a model is in the Open Inference Protocol v2: its tensors, config and statistics."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.artifact.specs import TensorSpec
from app.errors import InvalidInputError
from app.gateway.catalog import ReadyModel, ServedModel
from app.gateway.oip_request import NO_JSON, RequestedOutput, TensorRequest
from app.interface import BATCH, Interface
from app.model_config import VersionPolicy
from app.settings import Settings
from app.statistics import Duration, RunTimes, VersionStatistics
from app.tensors import NUMPY_DTYPES, Tensors

Json = dict[str, Any]

PLATFORM = "onnxruntime_onnx"

_MAX_NAME_LENGTH = 64
_INT32 = np.iinfo(np.int32)


def metadata(model: ReadyModel, served: ServedModel) -> Json:
    """Describe the tensors of a version; -1 stands for any size, the batch included."""
    interface = model.interface
    return {
        "name": model.model_name,
        "versions": [str(v.model_version) for v in served.versions if v.is_ready],
        "platform": PLATFORM,
        "inputs": [_tensor_metadata(spec, interface) for spec in interface.inputs],
        "outputs": [_tensor_metadata(spec, interface) for spec in interface.outputs],
    }


def config(model: ReadyModel, settings: Settings, *, batch_size_cap: int | None) -> Json:
    """Describe how a version is run by its settings, in the words of Triton's model configuration.

    Triton's batch is on axis 0; for a model that has it elsewhere, or has none, ``max_batch_size``
    is 0 and the sizes are those of whole tensors. Most rows of the next run, where they are fewer
    than ``max_batch_size``, are the only size that is preferred.
    """
    interface = model.interface
    required = {spec.name for spec in interface.required_inputs}
    return {
        "name": model.model_name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "version_policy": _version_policy(model.config.versions),
        "max_batch_size": settings.max_batch_size if interface.is_batch_first else 0,
        "input": [
            _tensor_config(spec, interface) | {"optional": spec.name not in required}
            for spec in interface.inputs
        ],
        "output": [_tensor_config(spec, interface) for spec in interface.outputs],
        **_scheduling(interface, settings, batch_size_cap),
        "model_transaction_policy": {"decoupled": False},
        "response_cache": {"enable": False},
    }


def _version_policy(policy: VersionPolicy) -> Json:
    if policy.all:
        return {"all": {}}
    if policy.named:
        return {"specific": {"versions": policy.named}}
    return {"latest": {"num_versions": policy.latest}}


def _scheduling(interface: Interface, settings: Settings, batch_size_cap: int | None) -> Json:
    """Name the batcher: Triton's clients know either the one for sequences or the other."""
    is_capped = batch_size_cap is not None and batch_size_cap < settings.max_batch_size
    preferred = {"preferred_batch_size": [batch_size_cap] if is_capped else []}
    if settings.declare_sequences and interface.states:
        idle_us = round(settings.sequence_idle_timeout_s * 1e6)
        return {
            "sequence_batching": {"max_sequence_idle_microseconds": idle_us, "oldest": preferred}
        }
    delay_us = round(settings.max_queue_delay_ms * 1000)
    priorities = {
        "priority_levels": settings.priority_levels,
        "default_priority_level": (settings.priority_levels + 1) // 2,
    }
    return {
        "dynamic_batching": {
            **preferred,
            "max_queue_delay_microseconds": delay_us,
            **priorities,
        }
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


def raw_input(interface: Interface) -> TensorSpec:
    """Return the input that a raw request stands for: the only one that must be given.

    Raises:
        InvalidInputError: There are several.
    """
    required = interface.required_inputs
    if len(required) != 1:
        names = ", ".join(spec.name for spec in required)
        raise InvalidInputError(f"a raw request needs a model of one input; this one has {names}")
    return required[0]


def fit_inputs(inputs: Tensors, interface: Interface) -> Tensors:
    """Check what all rows share, and fill in the lengths where every row is of full length.

    The values are checked where they are run.

    Raises:
        InvalidInputError: A tensor is missing, unknown or of the wrong type, or the batch differs.
    """
    specs = interface.input_specs
    if unknown := inputs.keys() - specs.keys():
        name = min(unknown)[:_MAX_NAME_LENGTH]
        raise InvalidInputError(f"the model has no input {name}; it has {', '.join(specs)}")
    for spec in interface.required_inputs:
        if spec.name not in inputs:
            raise InvalidInputError(f"input {spec.name} is missing")
    fitted = {name: _fit(array, specs[name]) for name, array in inputs.items()}
    rows = interface.rows_of(fitted)
    for name, array in fitted.items():
        for size, given in zip(specs[name].shape, array.shape, strict=True):
            if size == BATCH and given != rows:
                raise InvalidInputError(f"input {name}: dimension {BATCH} must be {rows}")
    lengths = interface.lengths
    if lengths is not None and lengths not in fitted:
        dtype = NUMPY_DTYPES[specs[lengths].datatype]
        fitted[lengths] = np.array([interface.length_of(fitted)] * rows, dtype)
    return fitted


def wanted_outputs(request: TensorRequest, interface: Interface) -> tuple[RequestedOutput, ...]:
    """Return the outputs that a request wants; all of them where it names none.

    Raises:
        InvalidInputError: It names one that the model does not have.
    """
    names = interface.output_specs
    if not request.outputs:
        return _all_outputs(interface, is_binary=request.is_binary)
    for output in request.outputs:
        if output.name not in names:
            name = output.name[:_MAX_NAME_LENGTH]
            raise InvalidInputError(f"the model has no output {name}; it has {', '.join(names)}")
    _check_form(request.outputs, interface)
    return request.outputs


def _all_outputs(interface: Interface, *, is_binary: bool) -> tuple[RequestedOutput, ...]:
    wanted = tuple(RequestedOutput(name, is_binary) for name in interface.output_specs)
    _check_form(wanted, interface)
    return wanted


def _check_form(wanted: Sequence[RequestedOutput], interface: Interface) -> None:
    for output in wanted:
        if not output.is_binary and interface.output_specs[output.name].datatype == NO_JSON:
            raise InvalidInputError(f"output {output.name} is {NO_JSON}: ask for binary data")


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


def _sizes(spec: TensorSpec, interface: Interface) -> list[int]:
    """Return sizes; clients of Triton can not write a row that has none, so it has one of 1."""
    sizes = [size if isinstance(size, int) else -1 for size in spec.shape]
    return [*sizes, 1] if interface.is_batch_first and len(sizes) == 1 else sizes


def _tensor_metadata(spec: TensorSpec, interface: Interface) -> Json:
    return {"name": spec.name, "datatype": spec.datatype, "shape": _sizes(spec, interface)}


def _tensor_config(spec: TensorSpec, interface: Interface) -> Json:
    sizes = _sizes(spec, interface)
    is_reshaped = len(sizes) > len(spec.shape)
    return {
        "name": spec.name,
        "data_type": "TYPE_STRING" if spec.datatype == "BYTES" else f"TYPE_{spec.datatype}",
        "dims": sizes[1:] if interface.is_batch_first else sizes,
        **({"reshape": {"shape": []}} if is_reshaped else {}),
    }


def _duration(duration: Duration) -> Json:
    return {"count": duration.count, "ns": duration.ns}


def _run_times(times: RunTimes) -> Json:
    return {
        "compute_input": _duration(times.compute_input),
        "compute_infer": _duration(times.compute_infer),
        "compute_output": _duration(times.compute_output),
    }
