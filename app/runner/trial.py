"""Finds out by trial what a model file without a card takes and gives.

Such a file names its tensors and some of their sizes, but not which dimension counts rows or steps,
and that decides whether requests may share a run. So the likeliest readings are tried at load, on
the device that will serve: requests are run one by one and together, and only where the numbers
agree are requests merged. A model that mixes its rows is served one request at a time; one that
runs on no made-up numbers at all is refused.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.artifact.golden_case import relative_error
from app.artifact.specs import TensorSpec
from app.errors import ArtifactError, EngineError
from app.interface import BATCH, TIME, Interface
from app.runner.engine import Engine
from app.runner.merging import merge, split
from app.runner.readings import batch_readings, find_states, possible_lengths
from app.tensors import NUMPY_DTYPES, Tensors

logger = logging.getLogger(__name__)

_TOLERANCE = 1e-4
_SHORT, _LONG = 5, 7
_OTHER_SIZE = 3
"""Of dimensions that are neither rows nor steps."""
_FREE_SIZES = (1, 2, 8, 64)
"""Of all dimensions that are not fixed, where no reading of the shapes holds."""
_OUT_OF_MEMORY = ("Failed to allocate memory", "bad_alloc", "smaller than requested bytes")
"""What ONNX Runtime says then; it has no error of its own for it."""


class _MismatchError(Exception):
    """A reading of the shapes does not hold."""


def find_interface(engine: Engine) -> Interface:
    """Return what is known of a plain model once it has run.

    The interface of ``engine`` is what the file itself says: nothing of batch and time. It stays so
    where no reading of it holds.

    Raises:
        ArtifactError: It does not run at all, or not in the memory there is.
    """
    declared = engine.interface
    for reading in batch_readings(declared):
        for lengths in (*possible_lengths(reading), None):
            try:
                found = _Trial(engine, reading, lengths).confirm()
            except (_MismatchError, EngineError) as error:
                logger.debug("a reading of the model's shapes does not hold: %s", error)
            else:
                return replace(found, states=find_states(found))
    _check_runs(engine)
    return declared


def _check_runs(engine: Engine) -> None:
    random = np.random.default_rng(0)
    names = [spec.name for spec in engine.interface.outputs]
    failure = ""
    for free in _FREE_SIZES:
        inputs = {
            spec.name: _make_values(
                random,
                NUMPY_DTYPES[spec.datatype],
                [free if isinstance(size, str) else size for size in spec.shape],
            )
            for spec in engine.interface.inputs
        }
        try:
            engine.run(inputs, names)
        except EngineError as error:
            failure = failure or str(error)
        else:
            return
    raise ArtifactError(f"it runs on no made-up numbers: {failure}")


class _Trial:
    """One reading of a model's shapes, and perhaps of its lengths."""

    def __init__(self, engine: Engine, reading: Interface, lengths: str | None) -> None:
        self._engine = engine
        self._reading = reading
        self._lengths = lengths
        self._random = np.random.default_rng(0)
        self._names = [spec.name for spec in reading.outputs]

    def confirm(self) -> Interface:
        """Return the reading with the shapes of the outputs, or raise."""
        found = replace(self._reading, outputs=self._find_outputs())
        self._compare(found, [self._inputs(1, _SHORT), self._inputs(2, _SHORT)])
        if self._lengths is None:
            return found
        found = replace(found, lengths=self._lengths)
        ragged = self._inputs(2, _LONG, lengths=(_LONG, _SHORT))
        self._compare(found, [self._inputs(1, _SHORT), ragged])
        self._check_lengths_count(ragged)
        return found

    def _find_outputs(self) -> tuple[TensorSpec, ...]:
        one, two = self._run(self._inputs(1, _SHORT)), self._run(self._inputs(2, _SHORT))
        longer = self._run(self._inputs(1, _LONG))
        return tuple(
            TensorSpec(
                name=spec.name,
                datatype=spec.datatype,
                shape=_read_shape(
                    spec.name, one[spec.name].shape, two[spec.name].shape, longer[spec.name].shape
                ),
            )
            for spec in self._reading.outputs
        )

    def _compare(self, interface: Interface, requests: Sequence[Tensors]) -> None:
        together = self._run(merge(requests, interface))
        extents = [interface.extent_of(request) for request in requests]
        for request, own in zip(requests, split(extents, together, interface), strict=True):
            _check_equal(own, self._run(request))

    def _check_lengths_count(self, ragged: Tensors) -> None:
        """What stands beyond a row's length must not show, and what stands before it must."""
        name = str(self._lengths)
        ran = self._run(ragged)
        garbage = {n: self._spoil_padding(n, array) for n, array in ragged.items()}
        _check_equal(self._run(garbage), ran)
        full = ragged | {name: np.full_like(ragged[name], _LONG)}
        try:
            _check_equal(self._run(full), ran)
        except _MismatchError:
            return
        raise _MismatchError(f"{name} changes nothing")

    def _spoil_padding(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        shape = self._reading.input_specs[name].shape
        if TIME not in shape:
            return array
        place: list[int | slice] = [slice(None)] * array.ndim
        place[shape.index(BATCH)], place[shape.index(TIME)] = 1, slice(_SHORT, None)
        spoiled = array.copy()
        spoiled[tuple(place)] = _make_values(self._random, array.dtype, array[tuple(place)].shape)
        return spoiled

    def _inputs(self, rows: int, steps: int, lengths: Sequence[int] = ()) -> Tensors:
        sizes = {BATCH: rows, TIME: steps}
        inputs: Tensors = {}
        for spec in self._reading.inputs:
            dtype = NUMPY_DTYPES[spec.datatype]
            if spec.name == self._lengths:
                inputs[spec.name] = np.array(lengths or [steps] * rows, dtype)
                continue
            shape = [
                sizes.get(size, _OTHER_SIZE) if isinstance(size, str) else size
                for size in spec.shape
            ]
            inputs[spec.name] = _make_values(self._random, dtype, shape)
        return inputs

    def _run(self, inputs: Tensors) -> Tensors:
        try:
            return self._engine.run(inputs, self._names)
        except EngineError as error:
            if any(words in str(error) for words in _OUT_OF_MEMORY):
                raise ArtifactError(
                    "it takes more memory than a model may when it is tried"
                ) from error
            raise


def _make_values(
    random: np.random.Generator, dtype: np.dtype[Any], shape: Sequence[int]
) -> NDArray[Any]:
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    values = random.integers(0, 2, shape)  # of indices, no table is too small for 0 and 1
    return values.astype(str).astype(object) if dtype.kind == "O" else values.astype(dtype)


def _read_shape(
    name: str, one: tuple[int, ...], two: tuple[int, ...], longer: tuple[int, ...]
) -> tuple[int | str, ...]:
    """Tell the batch and the time from the shapes for 1 and 2 rows and for more steps."""
    if not len(one) == len(two) == len(longer):
        raise _MismatchError(f"output {name} has no fixed number of dimensions")
    shape: list[int | str] = []
    for axis, size in enumerate(one):
        if (size, two[axis], longer[axis]) == (1, 2, 1):
            shape.append(BATCH)
        elif two[axis] != size:
            raise _MismatchError(f"output {name} does not grow with the rows alone")
        elif longer[axis] - size == _LONG - _SHORT and size >= _SHORT:
            shape.append(TIME if size == _SHORT else f"{TIME}+{size - _SHORT}")
        else:
            shape.append(size if longer[axis] == size else f"{name}.{axis}")
    if shape.count(BATCH) != 1:
        raise _MismatchError(f"output {name} has no batch")
    return tuple(shape)


def _check_equal(got: Tensors, want: Tensors) -> None:
    for name, array in want.items():
        if got[name].shape != array.shape:
            raise _MismatchError(f"output {name} has another shape in a batch")
        is_float = array.dtype.kind == "f"
        is_equal = (
            relative_error(got[name], array) <= _TOLERANCE
            if is_float
            else np.array_equal(got[name], array)
        )
        if not is_equal:
            raise _MismatchError(f"output {name} depends on its neighbours in a batch")
