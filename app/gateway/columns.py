"""Columns of numbers that are given by name: in the model's order, as arrays."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidInputError
from app.gateway.decoding import OUT_OF_RANGE, escape_pointer
from app.tensors import LARGEST_MAGNITUDE, to_float32

_Column = TypeVar("_Column")


def unknown(length: int, num_columns: int) -> NDArray[np.float32]:
    """Return a table ``(length, num_columns)`` in which nothing is known."""
    table = np.empty((length, num_columns), np.float32)
    if num_columns:
        table.fill(np.nan)
    return table


def put_in_order(
    given: Mapping[str, _Column] | None, names: Sequence[str], pointer: str
) -> list[tuple[str, _Column]]:
    """Put what is given by name in the model's order, each with its pointer.

    Raises:
        InvalidInputError: Other names are given than ``names``.
    """
    if not given and not names:
        return []
    given = given or {}
    if given.keys() != set(names):
        wanted = f"exactly {', '.join(names)}" if names else "nothing"
        raise InvalidInputError(f"{pointer.rpartition('/')[2]} must hold {wanted}", pointer)
    return [(f"{pointer}/{escape_pointer(name)}", given[name]) for name in names]


def to_numbers(
    values: Sequence[float | None], pointer: str, *, is_single: bool = False
) -> NDArray[np.float32]:
    """Convert numbers in one step, null to NaN.

    Raises:
        InvalidInputError: A number is too large.
    """
    array = to_float32(values)
    sizes = np.abs(array)
    if np.count_nonzero(sizes <= LARGEST_MAGNITUDE) == len(array):
        return array  # the usual case, told in half the time
    too_large = sizes > LARGEST_MAGNITUDE
    if too_large.any():
        place = pointer if is_single else f"{pointer}/{int(too_large.argmax())}"
        raise InvalidInputError(OUT_OF_RANGE, place)
    return array
