"""Padded tensors of many series, and the random batches that training draws from them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import override

from models.metrics import seasonal_scale
from models.series import FloatArray, Series, SeriesSet
from models.shards import WHOLE, Shard

_LARGEST_WEIGHT = 30.0
_VALIDATION_BATCH = 128


@dataclass(frozen=True, slots=True)
class Crop:
    """Steps ``first`` to ``stop`` of a series, of which only those before ``limit`` are learned."""

    series: Series
    first: int
    stop: int
    limit: int
    weight: float = 1.0


def longest(crops: Sequence[Crop]) -> int:
    """Return the steps of the longest crop."""
    return max(crop.stop - crop.first for crop in crops)


def stack_crops(
    crops: Sequence[Crop], horizon: int, *, time: int | None = None
) -> dict[str, Tensor]:
    """Stack crops into the inputs of ``Forecaster``, padded on the right with NaN.

    Args:
        crops: The rows.
        horizon: Steps of future covariates after each crop.
        time: Steps to pad to; those of the longest crop if None.

    Returns:
        ``past_target``, ``sequence_lens`` and the covariates that the series have, as in
        ``Forecaster.forward``; ``limits`` ``(batch,)``, counted from the first step; and
        ``weights`` ``(batch,)``.
    """
    time = time or longest(crops)
    batch = {
        "past_target": _stack([c.series.target[c.first : c.stop, np.newaxis] for c in crops], time)
        .squeeze(-1),
        "sequence_lens": torch.tensor([c.stop - c.first for c in crops], dtype=torch.int32),
        "limits": torch.tensor([c.limit - c.first for c in crops]),
        "weights": torch.tensor([c.weight for c in crops]),
    }  # fmt: skip
    one = crops[0].series
    if one.past_covariates.size:
        past = [c.series.past_covariates[c.first : c.stop] for c in crops]
        batch["past_covariates"] = _stack(past, time)
    if one.future_covariates.size:
        future = [c.series.future_covariates[c.first : c.stop + horizon] for c in crops]
        batch["future_covariates"] = _stack(future, time + horizon)
    if one.static_covariates.size:
        static = np.stack([c.series.static_covariates for c in crops])
        batch["static_covariates"] = torch.from_numpy(static).float()
    return batch


def _stack(rows: Sequence[FloatArray], time: int) -> Tensor:
    stacked = np.full((len(rows), time, rows[0].shape[1]), np.nan, np.float32)
    for place, row in zip(stacked, rows, strict=True):
        place[: len(row)] = row
    return torch.from_numpy(stacked)


def series_weights(
    items: SeriesSet, limits: Sequence[int] | None = None, *, is_log: bool, mase_share: float
) -> FloatArray:
    """Weigh series between alike and as in MASE; the mean weight is 1.

    The loss of a series is in units of its own level (log axis) or of its own steps, MASE in units
    of its seasonal differences. The weight that turns one into the other is blended with 1.

    Args:
        items: The series.
        limits: How many steps of each may be learned from; all if None.
        is_log: Whether the network works on the log axis.
        mase_share: 0 for the network's own units, 1 for those of MASE.
    """
    targets = (item.target for item in items.series)
    if limits is not None:
        targets = (target[:stop] for target, stop in zip(targets, limits, strict=True))
    ratios = np.array([_scale_ratio(target, items.season, is_log) for target in targets])
    ratios = np.clip(np.nan_to_num(ratios, nan=1.0, posinf=_LARGEST_WEIGHT), 0, _LARGEST_WEIGHT)
    weights: FloatArray = (1 - mase_share) + mase_share * ratios / max(float(ratios.mean()), 1e-9)
    return weights


def _scale_ratio(target: FloatArray, season: int, is_log: bool) -> float:
    known = target[~np.isnan(target)]
    own = float(np.abs(known).mean()) if is_log else seasonal_scale(target, 1)
    return own / max(seasonal_scale(target, season), 1e-9 * own, 1e-12)


@dataclass(frozen=True, slots=True)
class TrainingPart:
    """What one fit may see of a set of series.

    Attributes:
        items: The series.
        limits: How many steps of each may be learned from.
        weights: How much each counts.
    """

    items: SeriesSet
    limits: tuple[int, ...]
    weights: FloatArray

    def list_held_back(self) -> list[int]:
        """Return the numbers of the series of which the end is held back."""
        lengths = enumerate(self.items.lengths)
        return [row for row, length in lengths if self.limits[row] < length]


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """How random batches are drawn.

    Attributes:
        batch_size: Series in a batch, over all processes.
        crop_length: Longest stretch of a series to forecast from; the steps ahead come on top.
        seed: Of what is random.
        shard: Which rows of each batch this process has.
    """

    batch_size: int
    crop_length: int
    seed: int
    shard: Shard = WHOLE


class RandomBatches(Dataset[dict[str, Tensor]]):
    """Batch number ``i`` of a run, drawn from the seed and ``i`` alone.

    So a resumed run sees what an uninterrupted one would have seen, and processes that each take a
    shard of it see it whole between them, padded to the same number of steps.
    """

    def __init__(self, part: TrainingPart, drawing: Drawing, *, horizon: int) -> None:
        self._part = part
        self._drawing = drawing
        self._horizon = horizon

    @override
    def __getitem__(self, index: int) -> dict[str, Tensor]:
        random = np.random.default_rng([self._drawing.seed, index])
        rows = random.integers(len(self._part.items.series), size=self._drawing.batch_size)
        crops = [self._crop(int(row), random) for row in rows]
        return stack_crops(self._drawing.shard.pick(crops), self._horizon, time=longest(crops))

    def _crop(self, row: int, random: np.random.Generator) -> Crop:
        series, limit = self._part.items.series[row], self._part.limits[row]
        length = self._drawing.crop_length + self._horizon
        spare = limit - length
        first = int(random.integers(spare + 1)) if spare > 0 else 0
        stop = min(first + length, limit)
        return Crop(series, first, stop, stop, float(self._part.weights[row]))


class ValidationBatches(Dataset[dict[str, Tensor]]):
    """The series of which the last ``horizon`` steps are held back, those steps included.

    A process has its shard of the rows of each batch; where that is empty, a row that weighs
    nothing, so that all processes have as many batches.
    """

    def __init__(
        self, part: TrainingPart, *, horizon: int, context_length: int, shard: Shard = WHOLE
    ) -> None:
        self._part = part
        self._horizon = horizon
        self._context_length = context_length
        self._shard = shard
        # Rows of one length waste no padding.
        self._rows = sorted(part.list_held_back(), key=self._count_steps)

    @property
    def num_rows(self) -> int:
        """Series in all batches of all processes."""
        return len(self._rows)

    def __len__(self) -> int:
        return math.ceil(len(self._rows) / _VALIDATION_BATCH)

    @override
    def __getitem__(self, index: int) -> dict[str, Tensor]:
        first = index * _VALIDATION_BATCH
        rows = self._rows[first : first + _VALIDATION_BATCH]
        crops = [self._crop(row) for row in self._shard.pick(rows)]
        return stack_crops(crops or [replace(self._crop(rows[0]), weight=0.0)], self._horizon)

    def _count_steps(self, row: int) -> int:
        return min(self._part.limits[row], self._context_length)

    def _crop(self, row: int) -> Crop:
        limit = self._part.limits[row]
        return Crop(
            series=self._part.items.series[row],
            first=max(0, limit - self._context_length),
            stop=limit + self._horizon,
            limit=limit,
            weight=float(self._part.weights[row]),
        )
