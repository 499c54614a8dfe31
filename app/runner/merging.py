"""Joins the rows of requests into one run and gives each request its own rows back."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.artifact.specs import TensorSpec
from app.interface import BATCH, Extent, Interface, steps_beyond
from app.tensors import Tensors


def merge(parts: Sequence[Tensors], interface: Interface) -> Tensors:
    """Join inputs of one group along their batch, each padded at its end to the longest."""
    if len(parts) == 1:
        return parts[0]
    return {
        name: _concatenate(
            [part[name] for part in parts], interface.input_specs[name].shape.index(BATCH)
        )
        for name in parts[0]
    }


def split(extents: Sequence[Extent], outputs: Tensors, interface: Interface) -> Iterator[Tensors]:
    """Give each request, in order, its own rows of the outputs, cut back to its own length."""
    if len(extents) == 1:
        yield outputs
        return
    start = 0
    for extent in extents:
        rows = slice(start, start + extent.rows)
        yield {
            name: array[own_part(interface.output_specs[name], rows, extent.length)]
            for name, array in outputs.items()
        }
        start += extent.rows


def own_part(spec: TensorSpec, rows: slice, length: int) -> tuple[slice, ...]:
    """Return the place of some rows, cut to their own length, in an output of a larger run."""
    return tuple(_cut(size, rows, length) for size in spec.shape)


def _concatenate(arrays: list[NDArray[Any]], axis: int) -> NDArray[Any]:
    rest = [array.shape[:axis] + array.shape[axis + 1 :] for array in arrays]
    if len(set(rest)) == 1:
        return np.concatenate(arrays, axis)
    shape = np.max([array.shape for array in arrays], axis=0)
    shape[axis] = sum(array.shape[axis] for array in arrays)
    padded = np.zeros(shape, arrays[0].dtype)
    if padded.dtype == object:
        padded.fill("")
    start = 0
    for array in arrays:
        place = [slice(size) for size in array.shape]
        place[axis] = slice(start, start + array.shape[axis])
        padded[tuple(place)] = array
        start += array.shape[axis]
    return padded


def _cut(size: int | str, rows: slice, length: int) -> slice:
    if size == BATCH:
        return rows
    beyond = steps_beyond(size)
    return slice(None) if beyond is None else slice(length + beyond)
