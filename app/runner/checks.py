"""Checks tensors before they are queued, so that no caller can fail another's run."""

from collections.abc import Sequence

import numpy as np

from app.errors import InvalidInputError
from app.interface import TIME, Interface, steps_beyond
from app.tensors import NUMPY_DTYPES, Tensors

_MAX_NAME_LENGTH = 64


def check_inputs(inputs: Tensors, interface: Interface) -> None:
    """Check names, types, shapes, lengths and magnitudes of the inputs of one request.

    Raises:
        InvalidInputError: Something does not fit; ONNX Runtime would abort, or fail the whole
        batch.
    """
    _check_names(inputs, interface)
    sizes: dict[str, int] = {}
    for name, array in inputs.items():
        spec = interface.input_specs[name]
        if array.dtype != NUMPY_DTYPES[spec.datatype]:
            raise InvalidInputError(f"input {name} must be {spec.datatype}")
        _check_shape(name, array.shape, spec.shape, sizes=sizes)
    _check_time(inputs, interface, sizes)
    _check_magnitudes(inputs, interface)


def check_outputs(outputs: Sequence[str], interface: Interface) -> None:
    """Check the names of wanted outputs.

    Raises:
        InvalidInputError: There is none, or one that the model does not have.
    """
    known = interface.output_specs
    if not outputs or set(outputs) - known.keys():
        raise InvalidInputError(f"outputs must be some of {', '.join(sorted(known))}")


def _check_names(inputs: Tensors, interface: Interface) -> None:
    given_states = inputs.keys() & interface.state_names
    if given_states and len(given_states) < len(interface.state_names):
        raise InvalidInputError("the states of a model must be given all together or not at all")
    for name in interface.input_specs:
        if name not in inputs and name not in interface.state_names:
            raise InvalidInputError(f"input {name} is missing")
    for name in inputs.keys() - interface.input_specs.keys():
        raise InvalidInputError(f"the model has no input of the name {name[:_MAX_NAME_LENGTH]!r}")


def _check_shape(
    name: str, shape: tuple[int, ...], want: tuple[int | str, ...], *, sizes: dict[str, int]
) -> None:
    if len(shape) != len(want):
        raise InvalidInputError(f"input {name} must have {len(want)} dimensions")
    for size, dimension in zip(shape, want, strict=True):
        expected = sizes.setdefault(dimension, size) if isinstance(dimension, str) else dimension
        if size != expected or size < 1:
            raise InvalidInputError(
                f"input {name}: dimension {dimension} must be {max(expected, 1)}"
            )


def _check_time(inputs: Tensors, interface: Interface, sizes: dict[str, int]) -> None:
    time = sizes.get(TIME)
    if time is None:
        return
    if interface.max_time is not None and time > interface.max_time:
        raise InvalidInputError(f"at most {interface.max_time} time steps may be given")
    for dimension, size in sizes.items():
        beyond = steps_beyond(dimension)
        if beyond is not None and size != time + beyond:
            raise InvalidInputError(
                f"dimension {dimension} must be {time + beyond}: {beyond} steps beyond the {TIME}"
            )
    if interface.lengths is not None:
        lengths = inputs[interface.lengths].tolist()
        if min(lengths) < 1 or max(lengths) > time:
            raise InvalidInputError(f"{interface.lengths} must be between 1 and {time}")


def _check_magnitudes(inputs: Tensors, interface: Interface) -> None:
    limit = interface.max_magnitude
    if limit is None:
        return
    for name, array in inputs.items():
        is_series = array.dtype == np.float32 and name not in interface.state_names
        if is_series and (np.abs(array) > limit).any():
            raise InvalidInputError(f"{name}: the magnitude of a number may be at most {limit:g}")
