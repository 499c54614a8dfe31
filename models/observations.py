"""The known values on one time axis, and running sums up to each step."""

from dataclasses import dataclass

from torch import Tensor

TINY = 1e-12
SMALLEST_SQUARE = 1e-36
"""Constants of a graph must be float32 numbers: the exporter makes zeros of smaller ones."""
_FLOOR_SHARE = 0.01

SUM_ABSOLUTE, COUNT, SUM_LEVEL, SUM_STEP, COUNT_STEP, SUM_ERROR, SUM_DEVIATION = range(7)
SUM_CHANGE, COUNT_CHANGE = 7, 8
"""Only where there is an anchor."""


@dataclass(frozen=True)
class Observations:
    """The known values, those of the tail first."""

    kept: Tensor
    """``(batch, tail + time)``, floored"""
    transformed: Tensor
    """``(batch, tail + time)``, zero where missing; float64"""
    observed: Tensor
    """``(batch, tail + time)``, which are not missing"""
    live: Tensor
    """``(batch, time)``, which of the new steps are within the row's length"""
    steps: Tensor
    """``(time, 1)``, number of each new step"""
    new: Tensor
    """``(batch, time)``, the end of ``transformed``"""


def smallest_kept(sum_absolute: Tensor, count: Tensor) -> Tensor:
    """Return what smaller values are raised to, from two of the running sums."""
    return (_FLOOR_SHARE * sum_absolute / count.clamp(min=1)).clamp(min=TINY)


def average(values: Tensor) -> Tensor:
    """Average the last axis in float64: then no order of summation shows in the float32 result.

    ONNX Runtime's order depends on where a row lies in memory, that is, on its place in the batch.
    """
    # not mean(dtype=...): the exporter drops that argument
    return values.double().mean(-1, keepdim=True).float()
