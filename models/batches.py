"""Padded tensors of many series, and the random batches that training draws from them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import override

from models.metrics import seasonal_scale
from models.series import FloatArray, Series, SeriesSet

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


def stack_crops(crops: Sequence[Crop], horizon: int) -> dict[str, Tensor]:
    """Stack crops into the inputs of ``Forecaster``, padded on the right with NaN.

    Returns:
        ``past_target``, ``sequence_lens`` and the covariates that the series have, as in
        ``Forecaster.forward``; ``limits`` ``(batch,)``, counted from the first step; and
        ``weights`` ``(batch,)``.
    """
    time = max(crop.stop - crop.first for crop in crops)
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


def series_weights(items: SeriesSet, *, is_log: bool, mase_share: float) -> FloatArray:
    """Weigh series between alike and as in MASE; the mean weight is 1.

    The loss of a series is in units of its own level (log axis) or of its own steps, MASE in units
    of its seasonal differences. The weight that turns one into the other is blended with 1.

    Args:
        items: The series, as far as they may be learned from.
        is_log: Whether the network works on the log axis.
        mase_share: 0 for the network's own units, 1 for those of MASE.
    """
    ratios = np.array([_scale_ratio(item.target, items.season, is_log) for item in items.series])
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


class RandomBatches(Dataset[dict[str, Tensor]]):
    """Batch number ``i`` of a run, drawn from the seed and ``i`` alone.

    So a resumed run sees what an uninterrupted one would have seen.
    """

    def __init__(
        self, part: TrainingPart, *, horizon: int, batch_size: int, crop_length: int, seed: int
    ) -> None:
        self._part = part
        self._horizon = horizon
        self._batch_size = batch_size
        self._crop_length = crop_length
        self._seed = seed

    @override
    def __getitem__(self, index: int) -> dict[str, Tensor]:
        random = np.random.default_rng([self._seed, index])
        rows = random.integers(len(self._part.items.series), size=self._batch_size)
        return stack_crops([self._crop(int(row), random) for row in rows], self._horizon)

    def _crop(self, row: int, random: np.random.Generator) -> Crop:
        series, limit = self._part.items.series[row], self._part.limits[row]
        spare = limit - self._crop_length
        first = int(random.integers(spare + 1)) if spare > 0 else 0
        stop = min(first + self._crop_length, limit)
        return Crop(series, first, stop, limit, float(self._part.weights[row]))


def validation_batches(
    part: TrainingPart, *, horizon: int, context_length: int
) -> list[dict[str, Tensor]]:
    """Stack the series of which the last ``horizon`` steps are held back, those steps included."""
    rows = zip(part.items.series, part.limits, part.weights.tolist(), strict=True)
    crops = [
        Crop(series, max(0, limit - context_length), limit + horizon, limit, weight)
        for series, limit, weight in rows
        if limit + horizon <= len(series.target)
    ]
    crops.sort(key=lambda crop: crop.stop - crop.first)  # rows of one length waste no padding
    return [
        stack_crops(crops[first : first + _VALIDATION_BATCH], horizon)
        for first in range(0, len(crops), _VALIDATION_BATCH)
    ]
