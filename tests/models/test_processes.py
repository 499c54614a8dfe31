import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from models.batches import Drawing, RandomBatches, TrainingPart, ValidationBatches
from models.series import Series, SeriesSet
from models.shards import RowDropout, Shard, draw_like, drawing

PATIENCE_S = 100
SAME_LOSS = 1e-4
"""Sums of float32 in another order, and 24 steps of an optimiser in which the difference grows."""

SMALL = [
    *("--horizon", "4", "--season", "4", "--hidden-size", "8", "--num-layers", "2"),
    *("--members", "1", "--dropout", "0.2", "--input-noise", "0.1"),
]


def rows_with_names(num_series: int) -> SeriesSet:
    """Series that all of their values tell apart, of different lengths."""
    lengths = range(20, 20 + num_series)
    series = (Series(str(i), np.full(length, 1.0 + i)) for i, length in enumerate(lengths))
    return SeriesSet(tuple(series), None, 1)


@pytest.fixture
def part() -> TrainingPart:
    items = rows_with_names(9)
    return TrainingPart(items, tuple(length - 3 for length in items.lengths), np.ones(9))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_shards_of_a_batch_are_disjoint_and_complete(part: TrainingPart, count: int) -> None:
    how = Drawing(batch_size=8, crop_length=18, seed=1)
    whole = RandomBatches(part, how, horizon=3)[5]
    for rank in range(count):
        shard = Shard(rank, count)
        batch = RandomBatches(part, dataclasses.replace(how, shard=shard), horizon=3)[5]
        for name, values in batch.items():
            torch.testing.assert_close(values, whole[name][shard.rows], equal_nan=True)
            whole[name][shard.rows] = -1
    assert (whole["past_target"] == -1).all()


@pytest.mark.parametrize("count", [2, 12])
def test_every_held_back_window_is_scored_once(part: TrainingPart, count: int) -> None:
    shards = [
        ValidationBatches(part, horizon=3, context_length=18, shard=Shard(rank, count))
        for rank in range(count)
    ]
    assert {(len(shard), shard.num_rows) for shard in shards} == {(1, 9)}
    rows = [row for shard in shards for row in zip(*map(shard[0].get, ("past_target", "weights")))]
    scored = sorted(float(values[0]) for values, weight in rows if weight > 0)
    assert scored == [1.0 + i for i in range(9)]


def test_random_numbers_do_not_depend_on_the_number_of_processes() -> None:
    dropout = RowDropout(0.5)
    ones = torch.ones(7, 5, 3)
    torch.manual_seed(1)
    whole = (dropout(ones), torch.randn(5, 2))
    for rank in range(2):
        torch.manual_seed(1)
        with drawing(Shard(rank, 2), num_rows=5):
            rows = dropout(ones[:, rank::2])
            noise = draw_like(torch.empty(len(range(rank, 5, 2)), 2), torch.randn_like)
        assert torch.equal(rows, whole[0][:, rank::2])
        assert torch.equal(noise, whole[1][rank::2])


@pytest.fixture
def data_file(waves: SeriesSet, tmp_path: Path) -> Path:
    lines = ["item_id,timestamp,target,kind"]
    for row, item in enumerate(waves.series):
        kind = f"kind {row % 2}"
        lines += [f"{item.item_id},{step},{y},{kind}" for step, y in enumerate(item.target)]
    path = tmp_path / "waves.csv"
    path.write_text("\n".join(lines))
    return path


def command(data: Path, output: Path, *options: str) -> list[str]:
    return [
        *(sys.executable, "-m", "app", "train", str(data), "--output", str(output)),
        *SMALL,
        *options,
    ]


def run(arguments: list[str], **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - our own command
        arguments,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def losses(directory: Path) -> list[list[float]]:
    """Return the losses at each look of the fits that are left in a stopped run."""
    found = []
    for path in sorted(directory.glob("*.ckpt")):
        checks = torch.load(path, weights_only=True)["callbacks"]["LearningCurve"]["checks"]
        found += [[check["training_loss"], check["validation_loss"]] for check in checks]
    return found
