"""What a served model takes and gives, and how the rows of several requests may share a run.

A forecaster says so in its card. A model file without one is asked by trial, when it is loaded:
``app.runner.trial``. Everything between the protocols and the engine works on this one object.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from app.artifact.card import Card
from app.artifact.metadata import AnyCard
from app.artifact.specs import StateSpec, TensorSpec
from app.tensors import LARGEST_MAGNITUDE, NUMPY_DTYPES, Tensors

BATCH = "batch"
"""Name of the dimension that counts rows."""
TIME = "time"
"""Name of the dimension that counts steps; ``time+6`` is six steps more."""


@dataclass(frozen=True, slots=True)
class State:
    """A carried state: what output ``next_name`` gives is input ``name`` of the next run.

    ``initial`` fills it before the first step; None stands for NaN.
    """

    name: str
    next_name: str
    initial: float | None = 0.0


@dataclass(frozen=True, slots=True)
class Extent:
    """The size of one request.

    Attributes:
        rows: Its rows.
        length: Steps of its longest row, padding included.
        real_steps: Steps of all rows, without padding.
        group: Only requests of equal groups may share a run; None shares with nobody.
    """

    rows: int
    length: int
    real_steps: int
    group: Hashable

    @property
    def steps(self) -> int:
        """Padded steps: the work that it asks for."""
        return self.rows * self.length


@dataclass(frozen=True)  # no slots: what follows from the fields is worked out once and kept
class Interface:
    """The tensors of one model version.

    In their shapes, ``batch`` is the dimension that counts rows, wherever it stands, and ``time``
    the one that counts steps. Any other name is a size that the caller chooses.

    Attributes:
        inputs: All of them, the states too.
        outputs: All of them, the states too.
        states: What may be carried from run to run.
        lengths: Input that holds the valid steps of each row, so that rows may be padded.
        is_mergeable: Whether rows of several requests may share a run; every tensor then has a
            ``batch``.
        max_time: Most steps of a row.
        max_magnitude: Of the numbers of FP32 inputs that are no states.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[State, ...] = ()
    lengths: str | None = None
    is_mergeable: bool = False
    max_time: int | None = None
    max_magnitude: float | None = None

    @classmethod
    def from_card(cls, card: AnyCard) -> "Interface":
        """Describe an artifact, whose exporter has put the batch on axis 0 of every tensor."""
        horizon = card.horizon if isinstance(card, Card) else 0
        return cls(
            inputs=(
                *(_spec_of(spec, horizon) for spec in card.inputs),
                *(_state_spec(state, state.name) for state in card.states),
            ),
            outputs=(*card.outputs, *(_state_spec(s, s.next_name) for s in card.states)),
            states=tuple(
                State(name=s.name, next_name=s.next_name, initial=s.initial) for s in card.states
            ),
            lengths="sequence_lens",
            is_mergeable=True,
            max_time=card.context_length if isinstance(card, Card) else card.max_length,
            max_magnitude=LARGEST_MAGNITUDE,
        )

    @classmethod
    def from_json(cls, text: str) -> "Interface":
        """Read what ``to_json`` wrote."""
        return _adapter.validate_json(text)

    def to_json(self) -> str:
        """Write all fields."""
        return _adapter.dump_json(self).decode()

    @cached_property
    def input_specs(self) -> Mapping[str, TensorSpec]:
        """The inputs by name."""
        return {spec.name: spec for spec in self.inputs}

    @cached_property
    def output_specs(self) -> Mapping[str, TensorSpec]:
        """The outputs by name."""
        return {spec.name: spec for spec in self.outputs}

    @cached_property
    def state_names(self) -> frozenset[str]:
        """Inputs that are states: given all together or not at all."""
        return frozenset(state.name for state in self.states)

    @cached_property
    def required_inputs(self) -> tuple[TensorSpec, ...]:
        """What a caller must give: all but the states and the lengths."""
        optional = self.state_names | {self.lengths}
        return tuple(spec for spec in self.inputs if spec.name not in optional)

    @cached_property
    def is_batch_first(self) -> bool:
        """Whether rows are on axis 0 of every tensor."""
        return self.is_mergeable and all(
            spec.shape[:1] == (BATCH,) for spec in (*self.inputs, *self.outputs)
        )

    def rows_of(self, inputs: Tensors) -> int:
        """Return the rows of a request; 1 where the model knows no batch."""
        return _size(inputs, self._row_places, otherwise=1)

    def extent_of(self, inputs: Tensors) -> Extent:
        """Measure a request whose inputs have been checked."""
        rows, length = self.rows_of(inputs), self.length_of(inputs)
        # a list of so few numbers is summed sooner than an array
        real_steps = rows * length if self.lengths is None else sum(inputs[self.lengths].tolist())
        return Extent(rows, length, real_steps, self._group_of(inputs))

    def length_of(self, inputs: Tensors) -> int:
        """Return the padded steps of a row; 1 where the model knows no time."""
        return _size(inputs, self._time_places, otherwise=1)

    def slice_rows(self, inputs: Tensors, start: int, stop: int) -> Tensors:
        """Return some rows of all inputs, as views."""
        if start == 0 and stop >= self.rows_of(inputs):
            return inputs
        rows = slice(start, stop)
        return {
            name: array[(*[slice(None)] * self.input_specs[name].shape.index(BATCH), rows)]
            for name, array in inputs.items()
        }

    def join_rows(self, parts: Sequence[Tensors]) -> Tensors:
        """Put the outputs of one request together that was run in parts."""
        if len(parts) == 1:
            return parts[0]
        return {
            name: np.concatenate(
                [part[name] for part in parts], self.output_specs[name].shape.index(BATCH)
            )
            for name in parts[0]
        }

    def initial_states(self, rows: int) -> Tensors:
        """Return the states of rows that have not begun."""
        return {state.name: self._initial(state, rows) for state in self.states}

    def _initial(self, state: State, rows: int) -> NDArray[Any]:
        spec = self.input_specs[state.name]
        shape = [rows if size == BATCH else int(size) for size in spec.shape]
        fill = np.nan if state.initial is None else state.initial
        return np.full(shape, fill, NUMPY_DTYPES[spec.datatype])

    def _group_of(self, inputs: Tensors) -> Hashable:
        if not self.is_mergeable:
            return None
        if not self._chosen_axes:
            return frozenset(inputs)
        return frozenset(
            (name, *(array.shape[axis] for axis in self._chosen_axes.get(name, ())))
            for name, array in inputs.items()
        )

    @cached_property
    def _chosen_axes(self) -> Mapping[str, Sequence[int]]:
        """Axes whose sizes must agree within a run, by input."""
        padded = {BATCH} if self.lengths is None else {BATCH, TIME}
        chosen = {
            spec.name: [
                axis
                for axis, size in enumerate(spec.shape)
                if isinstance(size, str) and size.partition("+")[0] not in padded
            ]
            for spec in self.inputs
        }
        return {name: axes for name, axes in chosen.items() if axes}

    @cached_property
    def _row_places(self) -> Sequence[tuple[str, int]]:
        return self._places(BATCH)

    @cached_property
    def _time_places(self) -> Sequence[tuple[str, int]]:
        return self._places(TIME)

    def _places(self, dimension: str) -> Sequence[tuple[str, int]]:
        return [
            (spec.name, spec.shape.index(dimension))
            for spec in (*self.required_inputs, *self.inputs)
            if dimension in spec.shape
        ]


_adapter = TypeAdapter(Interface)


@lru_cache(1024)
def steps_beyond(size: int | str) -> int | None:
    """Return how many steps more than the time a dimension has; None where it is no time."""
    name, _, beyond = str(size).partition("+")
    return int(beyond or 0) if name == TIME and beyond.isdecimal() == bool(beyond) else None


def size_of(size: int | str, rows: int, length: int) -> int | None:
    """Return what a dimension measures in a run; None where only ONNX knows."""
    if isinstance(size, int):
        return size
    if size == BATCH:
        return rows
    beyond = steps_beyond(size)
    return None if beyond is None else length + beyond


def _size(inputs: Tensors, places: Sequence[tuple[str, int]], *, otherwise: int) -> int:
    for name, axis in places:
        if name in inputs:
            return int(inputs[name].shape[axis])
    return otherwise


def _spec_of(spec: TensorSpec, horizon: int) -> TensorSpec:
    shape = tuple(f"{TIME}+{horizon}" if size == "time+horizon" else size for size in spec.shape)
    return TensorSpec(name=spec.name, datatype=spec.datatype, shape=shape)


def _state_spec(state: StateSpec, name: str) -> TensorSpec:
    return TensorSpec(name=name, datatype=state.datatype, shape=(BATCH, *state.shape))
