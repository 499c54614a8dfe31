"""Checks tensors before they are queued, so that no caller can fail another's run."""

import numpy as np

from app.artifact import Card, StateSpec, TensorSpec
from app.errors import InvalidInputError
from app.tensors import LARGEST_MAGNITUDE, NUMPY_DTYPES, Tensors


def check_inputs(inputs: Tensors, card: Card) -> None:
    """Check names, types, shapes, lengths and finiteness of the inputs of one request.

    Raises:
        InvalidInputError: Something does not fit; ONNX Runtime would abort, or fail the whole
        batch.
    """
    specs: dict[str, TensorSpec] = {spec.name: spec for spec in card.inputs}
    states = {state.name: _state_tensor(state) for state in card.states}
    given_states = inputs.keys() & states.keys()
    if given_states and given_states != states.keys():
        raise InvalidInputError("the states of a model must be given all together or not at all")
    for name in specs.keys() - inputs.keys():
        raise InvalidInputError(f"input {name} is missing")
    sizes: dict[str, int] = {}
    for name, array in inputs.items():
        spec = specs.get(name) or states.get(name)
        if spec is None:
            raise InvalidInputError(f"the model has no input of the name {name[:64]!r}")
        if array.dtype != NUMPY_DTYPES[spec.datatype]:
            raise InvalidInputError(f"input {name} must be {spec.datatype}")
        _check_shape(name, array.shape, spec.shape, sizes=sizes)
    _check_values(inputs, card, sizes)


def _state_tensor(state: StateSpec) -> TensorSpec:
    shape: tuple[int | str, ...] = ("batch", *state.shape)
    return TensorSpec(name=state.name, datatype=state.datatype, shape=shape)


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


def _check_values(inputs: Tensors, card: Card, sizes: dict[str, int]) -> None:
    time = sizes["time"]
    if time > card.context_length:
        raise InvalidInputError(f"at most {card.context_length} time steps may be given")
    if sizes.get("time+horizon", time + card.horizon) != time + card.horizon:
        raise InvalidInputError(
            f"future_covariates must reach {card.horizon} steps beyond the target"
        )
    lengths = inputs["sequence_lens"]
    if lengths.min() < 1 or lengths.max() > time:
        raise InvalidInputError(f"sequence_lens must be between 1 and {time}")
    for spec in card.inputs:
        if spec.datatype == "FP32" and (np.abs(inputs[spec.name]) > LARGEST_MAGNITUDE).any():
            raise InvalidInputError(
                f"{spec.name}: the magnitude of a number may be at most {LARGEST_MAGNITUDE:g}"
            )
