"""Cuts the rows of one request into padded chunks of similar lengths."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.gateway.preparation import Row
from app.tensors import Tensors


class RunLimits(Protocol):
    """Bounds of one model run, as in Settings."""

    @property
    def max_batch_size(self) -> int:
        """Most rows."""
        ...

    @property
    def max_batch_steps(self) -> int:
        """Most padded steps."""
        ...

    @property
    def max_padding_share(self) -> float:
        """Most padding, as a share of all steps."""
        ...


class _Row(Protocol):
    @property
    def num_steps(self) -> int: ...


_AnyRow = TypeVar("_AnyRow", bound=_Row)


def cut_into_chunks(rows: Sequence[_AnyRow], limits: RunLimits) -> list[list[_AnyRow]]:
    """Group rows by length, within the limits of rows, padded steps and padding of one model run.

    A row that is over the limit of steps by itself has a chunk of its own.
    """
    chunks: list[list[_AnyRow]] = []
    num_steps = 0
    for row in sorted(rows, key=lambda row: row.num_steps):
        length = row.num_steps
        num_rows = len(chunks[-1]) + 1 if chunks else 1
        padded, steps = num_rows * length, num_steps + length
        fits = (
            num_rows <= limits.max_batch_size
            and padded <= limits.max_batch_steps
            and padded - steps <= limits.max_padding_share * padded
        )
        if chunks and fits:
            chunks[-1].append(row)
            num_steps = steps
        else:
            chunks.append([row])
            num_steps = length
    return chunks


def stack_rows(rows: Sequence[Row]) -> Tensors:
    """Stack rows of different lengths, padded on the right, where no recurrent layer reads.

    Returns: ``past_target`` ``(batch, time)``, ``sequence_lens`` ``(batch,)``, and, where the model
    has them, ``past_covariates`` ``(batch, time, num_past)``, ``future_covariates`` ``(batch, time
    + horizon, num_future)`` and ``static_covariates`` ``(batch, num_static)``.
    """
    tensors: Tensors = {
        "past_target": pad([row.target for row in rows]),
        "sequence_lens": np.array([len(row.target) for row in rows], np.int32),
    }
    first = rows[0]
    if first.past_covariates.shape[1]:
        tensors["past_covariates"] = pad([row.past_covariates for row in rows])
    if first.future_covariates.shape[1]:
        tensors["future_covariates"] = pad([row.future_covariates for row in rows])
    if first.static_covariates.size:
        tensors["static_covariates"] = np.stack([row.static_covariates for row in rows])
    return tensors


def pad(arrays: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Stack arrays ``(time, ...)`` of different lengths, padded on the right with zeros."""
    if len(arrays) == 1:
        return arrays[0][np.newaxis]
    longest = max(len(array) for array in arrays)
    padded = np.zeros((len(arrays), longest, *arrays[0].shape[1:]), np.float32)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return padded
