"""A small set of fixed sizes of runs, up to which runs are padded.

On CUDA, memory is reserved and kernels are chosen for each new size of a run. With few sizes, all
of them can be met before a model serves. Rows are filled up with copies of the first one, which is
sound whatever the model makes of its numbers; steps at the end are padded, where the lengths of the
rows keep them from being read. What was added is cut off the outputs again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.artifact.specs import TensorSpec
from app.interface import BATCH, Interface, size_of
from app.runner.merging import own_part
from app.tensors import Tensors

_NUM_SIZES_BITS = 2
"""So many bits tell the sizes apart between one power of two and the next: there are 4."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """The sizes of the runs of one model.

    Attributes:
        interface: Of a model that takes lengths.
        max_batch_size: Rows of the largest run, unless one request has more.
    """

    interface: Interface
    max_batch_size: int

    @staticmethod
    def fit(interface: Interface) -> bool:
        """Tell whether the runs of a model can be padded in rows and steps."""
        return interface.is_mergeable and interface.lengths is not None

    def rows(self, rows: int) -> int:
        """Return the rows of the run that ``rows`` are padded to: up to the most, powers of two."""
        if rows > self.max_batch_size:
            return _round_up(rows)
        return min(1 << (rows - 1).bit_length(), self.max_batch_size)

    def length(self, length: int) -> int:
        """Return the steps that ``length`` is padded to: beyond 8, by a quarter at most."""
        rounded, longest = _round_up(length), self.interface.max_time
        return rounded if longest is None else max(length, min(rounded, longest))

    def lengths(self, longest: int) -> Iterator[int]:
        """Return all lengths of runs, from that of ``longest`` down to 1."""
        length = self.length(longest)
        while length:
            yield length
            length = _next_below(length)

    def pad(self, inputs: Tensors) -> Tensors:
        """Fill the inputs of a run up."""
        rows, length = self.interface.rows_of(inputs), self.interface.length_of(inputs)
        sizes = self.rows(rows), self.length(length)
        if sizes == (rows, length):
            return inputs
        specs = self.interface.input_specs
        return {name: _pad(array, specs[name], *sizes) for name, array in inputs.items()}

    def cut(self, outputs: Tensors, inputs: Tensors) -> Tensors:
        """Return the part of the outputs that belongs to ``inputs``, as they were before."""
        rows = slice(self.interface.rows_of(inputs))
        length = self.interface.length_of(inputs)
        specs = self.interface.output_specs
        return {name: array[own_part(specs[name], rows, length)] for name, array in outputs.items()}


def _round_up(size: int) -> int:
    step = 1 << max(0, (size - 1).bit_length() - _NUM_SIZES_BITS - 1)
    return -(-size // step) * step if step > 1 else 1 << (size - 1).bit_length()


def _next_below(size: int) -> int:
    """Return the largest size below ``size``; 0 below 1."""
    below = size - 1
    while below and _round_up(below) != below:
        below -= 1
    return below


def _pad(array: NDArray[Any], spec: TensorSpec, rows: int, length: int) -> NDArray[Any]:
    axis = spec.shape.index(BATCH)
    sizes = (size_of(size, rows, length) for size in spec.shape)
    shape = [now if size is None else size for size, now in zip(sizes, array.shape, strict=True)]
    padded = np.zeros(shape, array.dtype)
    if padded.dtype == object:
        padded.fill("")
    padded[tuple(map(slice, array.shape))] = array
    more: Sequence[slice] = [slice(None)] * axis
    padded[(*more, slice(array.shape[axis], None))] = padded[(*more, slice(1))]
    return padded
