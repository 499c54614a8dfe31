"""What each ingredient of the defaults buys, scored on blocks of training parts alone.

Rows next to each other come from the same writer, speaker, machine or weather, and a test part
rarely does: so whole blocks are held out, never rows at random. Test parts stay unread.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.tasks.data_sets import TaskSet
from models.sequences.examples import ExampleSet

BLOCKS = 4
_ALONE: dict[str, Any] = {"num_members": 1}
VARIANTS: dict[str, dict[str, Any]] = {
    "little noise, alone": _ALONE | {"input_noise": 0.1, "level_noise": 0.0},
    "more noise, alone": _ALONE | {"level_noise": 0.0},
    "noise of levels too, alone": _ALONE,
    "defaults": {},
    "defaults, GRU": {"cell": "gru"},
    **{f"defaults, pooling {name}": {"pooling": name} for name in ("last", "mean", "max")},
}
"""Fields of ``SequenceConfig`` and ``SequenceTraining`` that differ from the defaults."""

_DAYS_OF_WEEK = 7


def load_training(task_set: TaskSet) -> ExampleSet:
    """Return the training part; the test part is never read."""
    with TemporaryDirectory() as directory:
        training, _ = replace(task_set, test=task_set.training).load(Path(directory))
    return training


def hold_out_blocks(items: ExampleSet) -> Iterator[tuple[ExampleSet, ExampleSet]]:
    """Yield what to learn from and what to score on, for each block."""
    numbers = number_blocks(items)
    for block in range(BLOCKS):
        learned, scored = (np.flatnonzero(numbers != block), np.flatnonzero(numbers == block))
        yield items.select(learned.tolist()), items.select(scored.tolist())


def number_blocks(items: ExampleSet) -> NDArray[np.int64]:
    """Return the block of each sequence: whole weeks, or else neighbours in the file.

    To classify, neighbours within each class: some files are sorted by it.
    """
    names = [example.item_id for example in items.examples]
    days = [_read_day(name) for name in names]
    if None not in days:
        weeks = [day.toordinal() // _DAYS_OF_WEEK for day in days if day]
        return np.array(weeks) % BLOCKS
    classes = [int(example.answer) if items.task == "classify" else 0 for example in items.examples]
    blocks = np.zeros(len(names), np.int64)
    for number in set(classes):
        places = np.flatnonzero(np.array(classes) == number)
        blocks[places] = np.arange(len(places)) * BLOCKS // len(places)
    return blocks


def _read_day(item_id: str) -> date | None:
    """Return the day that a name such as ``EWR-2013-01-31`` ends with."""
    _, _, text = item_id.partition("-")
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def mean_scores(scores: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean of each figure over the blocks."""
    return {name: round(float(np.mean([one[name] for one in scores])), 4) for name in scores[0]}
