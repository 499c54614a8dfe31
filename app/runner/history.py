"""Histories as a model reads them: a digest of every prefix, and inputs cut to the steps left.

A prefix holds all that the state behind it depends on: the values and covariates of its steps, the
covariates known ahead of its last step, and those that do not change.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.interface import BATCH, TIME, Extent, Interface, steps_beyond
from app.tensors import Tensors

_TIME_AXIS = 1


@dataclass(frozen=True, slots=True)
class Span:
    """The steps of one row that are to be run: from ``first`` to before ``stop``."""

    row: int
    first: int
    stop: int

    @property
    def steps(self) -> int:
        """Their number."""
        return self.stop - self.first


class History:
    """One series of a request; its digests are taken in ascending order, in one pass.

    Args:
        common: Whose it is, for which model, and what all prefixes share.
        steps: What is read at each step, in C order.
        length: Number of steps.
    """

    __slots__ = ("_hash", "_position", "_steps", "_width", "length")

    def __init__(self, common: bytes, steps: memoryview, length: int) -> None:
        self.length = length
        self._hash = hashlib.sha256(common)
        self._steps = steps
        self._width = len(steps) // length
        self._position = 0

    def digest(self, length: int) -> bytes:
        """Return the digest of the first ``length`` steps, no fewer than at the last call."""
        start, self._position = self._position, length * self._width
        self._hash.update(self._steps[start : self._position])
        return self._hash.digest()


class HistoryLayout:
    """Where the histories are in the inputs of one model, whose ``interface`` ``fits``."""

    def __init__(self, interface: Interface) -> None:
        self.states = interface.states
        self._interface = interface
        others = [s for s in interface.required_inputs if s.name not in interface.state_names]
        self._timed = {s.name: steps_beyond(s.shape[1]) or 0 for s in others if _is_timed(s.shape)}
        self._constant = tuple(s.name for s in others if s.name not in self._timed)

    @staticmethod
    def fits(interface: Interface) -> bool:
        """Whether states are carried from step to step, and answers are those of the last step."""
        timed = [spec for spec in interface.required_inputs if _is_timed(spec.shape)]
        shapes = [spec.shape for spec in interface.outputs]
        shapes += [spec.shape for spec in interface.required_inputs if spec not in timed]
        return (
            bool(interface.states and timed)
            and interface.lengths is not None
            and interface.is_batch_first
            and all(spec.datatype != "BYTES" for spec in interface.inputs)
            and all(size == BATCH or isinstance(size, int) for shape in shapes for size in shape)
        )

    def lengths(self, inputs: Tensors) -> list[int]:
        """Return the steps of each row."""
        lengths: list[int] = inputs[self._interface.lengths or ""].tolist()
        return lengths

    def read(self, inputs: Tensors, row: int, length: int, scope: bytes) -> History:
        """Return the history in one row.

        Args:
            inputs: Of a request, checked.
            row: Which of its rows.
            length: Steps of the row.
            scope: Whose it is, and for which model.
        """
        common = [scope, *(inputs[name][row].tobytes() for name in self._constant)]
        columns: list[NDArray[np.uint8]] = []
        for name, beyond in self._timed.items():
            values = inputs[name][row]
            if beyond:
                common.append(values[:beyond].tobytes())
            read = np.ascontiguousarray(values[beyond : beyond + length])
            columns.append(read.reshape(length, -1).view(np.uint8))
        table = columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)
        return History(b"".join(common), table.data.cast("B"), length)

    def cut(self, inputs: Tensors, spans: Sequence[Span]) -> Tensors:
        """Return the steps of some rows as inputs of their own, without states."""
        if len(spans) == self._interface.rows_of(inputs) and not any(s.first for s in spans):
            return inputs
        rows = [span.row for span in spans]
        lengths = np.array([span.steps for span in spans], inputs[self._length_name].dtype)
        cut: Tensors = {name: inputs[name][rows] for name in self._constant}
        cut[self._length_name] = lengths
        for name, beyond in self._timed.items():
            cut[name] = _cut_steps(inputs[name], spans, beyond)
        return cut

    def extent_of(self, inputs: Tensors) -> Extent:
        """Measure what ``cut`` gave."""
        return self._interface.extent_of(inputs)

    def join_states(self, states: Sequence[Tensors | None]) -> Tensors:
        """Stack the states of rows; a row that has none begins anew."""
        if not any(states):
            return self._interface.initial_states(len(states))
        initial = {} if all(states) else self._interface.initial_states(1)
        rows = [initial if state is None else state for state in states]
        return {state.name: _join([row[state.name] for row in rows]) for state in self.states}

    @property
    def _length_name(self) -> str:
        return self._interface.lengths or ""


def _is_timed(shape: tuple[int | str, ...]) -> bool:
    return len(shape) > _TIME_AXIS and str(shape[_TIME_AXIS]).partition("+")[0] == TIME


def _cut_steps(array: NDArray[Any], spans: Sequence[Span], beyond: int) -> NDArray[Any]:
    if len(spans) == 1:
        (span,) = spans
        return array[span.row : span.row + 1, span.first : span.stop + beyond]
    longest = max(span.steps for span in spans) + beyond
    padded = np.zeros((len(spans), longest, *array.shape[2:]), array.dtype)
    for place, span in zip(padded, spans, strict=True):
        place[: span.steps + beyond] = array[span.row, span.first : span.stop + beyond]
    return padded


def _join(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
