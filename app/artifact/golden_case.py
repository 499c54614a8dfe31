"""A recorded run that a model must repeat wherever it is served."""

import base64
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from app.artifact.specs import Content
from app.errors import ArtifactError
from app.tensors import DATATYPES, NUMPY_DTYPES, Datatype, Tensors


class TensorValue(Content):
    """One tensor with its numbers, little-endian in base64."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    data: str

    @classmethod
    def from_array(cls, name: str, array: NDArray[Any]) -> Self:
        """Wrap ``array``, which must have one of the types in ``NUMPY_DTYPES``."""
        data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
        return cls(name=name, datatype=DATATYPES[array.dtype], shape=array.shape, data=data)

    def to_array(self) -> NDArray[Any]:
        """Return the numbers in their shape.

        Raises:
            ArtifactError: There are more of them, or fewer, or they are no numbers.
        """
        try:
            flat = np.frombuffer(base64.b64decode(self.data), NUMPY_DTYPES[self.datatype])
            return flat.reshape(self.shape)
        except ValueError as error:
            raise ArtifactError(f"golden case: {self.name} is misshapen: {error}") from error


class GoldenCase(Content):
    """Inputs and the outputs they must give on any device, to ``relative_tolerance``."""

    inputs: tuple[TensorValue, ...]
    outputs: tuple[TensorValue, ...]
    relative_tolerance: float = 1e-4

    @classmethod
    def from_tensors(cls, inputs: Tensors, outputs: Tensors) -> Self:
        """Record one run."""
        return cls(
            inputs=tuple(TensorValue.from_array(n, a) for n, a in inputs.items()),
            outputs=tuple(TensorValue.from_array(n, a) for n, a in outputs.items()),
        )

    def input_tensors(self) -> Tensors:
        """Return the inputs by name."""
        return {value.name: value.to_array() for value in self.inputs}

    def check(self, outputs: Tensors) -> None:
        """Compare a replay with the record.

        Raises:
            ArtifactError: An output is missing or differs by more than the tolerance.
        """
        for value in self.outputs:
            want = value.to_array()
            got = outputs.get(value.name)
            if got is None or got.shape != want.shape:
                raise ArtifactError(f"golden case: output {value.name} is missing or misshapen")
            error = relative_error(got, want)
            if not error <= self.relative_tolerance:
                raise ArtifactError(
                    f"golden case: output {value.name} is off by {error:.1e}"
                    f" (limit {self.relative_tolerance:.0e})"
                )


def relative_error(got: NDArray[Any], want: NDArray[Any], *, floor_share: float = 0.1) -> float:
    """Largest difference relative to the size of the numbers beside it; NaN equals NaN.

    Each difference is divided by the larger of its own magnitude and ``floor_share`` of the largest
    magnitude in the same row (axis 0): float32 sums round in proportion to their largest terms, so
    the last digits of a number near zero, in a forecast that crosses it, are noise.
    """
    got64, want64 = got.astype(np.float64), want.astype(np.float64)
    if not np.array_equal(np.isnan(got64), np.isnan(want64)):
        return float("inf")
    got64, want64 = np.nan_to_num(got64), np.nan_to_num(want64)
    if not want64.size:
        return 0.0
    rows = np.abs(want64).reshape(len(want64), -1).max(axis=1)
    floor = (floor_share * rows).reshape(-1, *[1] * (want64.ndim - 1))
    size = np.maximum(np.maximum(np.abs(want64), floor), 1e-12)
    return float((np.abs(got64 - want64) / size).max())
