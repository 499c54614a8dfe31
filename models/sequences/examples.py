"""Sequences with their answers, as training and scoring see them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.artifact.sequence_card import SequenceTask

IGNORED = -1
"""Stands for the class of a step that does not count: one past the end, or without a tag."""


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence and its answer.

    Attributes:
        item_id: Its name.
        values: ``(time, num_features)``, float64, NaN where missing.
        answer: The number of its class ``()``, its targets ``(num_targets,)``, or the number of the
            class of each step ``(time,)``, ``IGNORED`` where there is none.
    """

    item_id: str
    values: NDArray[np.float64]
    answer: NDArray[np.float64] | NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ExampleSet:
    """Examples of one task.

    Attributes:
        task: What is to be learned.
        examples: The sequences, in the order of their first row in the file.
        features: Names of the columns of ``Example.values``.
        classes: Names of the classes, in order; none where the task is to regress.
        targets: Names of the numbers to find; none unless the task is to regress.
    """

    task: SequenceTask
    examples: tuple[Example, ...]
    features: tuple[str, ...]
    classes: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()

    @property
    def num_steps(self) -> int:
        """Steps of all sequences."""
        return sum(len(example.values) for example in self.examples)

    @property
    def lengths(self) -> list[int]:
        """Steps of each sequence."""
        return [len(example.values) for example in self.examples]

    @property
    def num_answered(self) -> int:
        """Sequences with an answer: those with a tag where the task is to tag, otherwise all."""
        if self.task != "tag":
            return len(self.examples)
        return sum(bool((example.answer != IGNORED).any()) for example in self.examples)

    def select(self, places: Sequence[int]) -> Self:
        """Return the examples at ``places``."""
        return replace(self, examples=tuple(self.examples[place] for place in places))

    @property
    def digest(self) -> str:
        """SHA-256 of everything a model could learn from."""
        about = (self.task, self.features, self.classes, self.targets)
        digest = hashlib.sha256(repr(about).encode())
        for example in self.examples:
            digest.update(repr((example.item_id, example.values.shape)).encode())
            digest.update(example.values.astype("<f8").tobytes())
            digest.update(example.answer.astype("<f8").tobytes())
        return digest.hexdigest()


def stack_examples(task: SequenceTask, examples: Sequence[Example]) -> dict[str, Tensor]:
    """Stack examples into tensors, padded on the right.

    Returns:
        ``sequence`` ``(batch, time, num_features)``, ``sequence_lens`` ``(batch,)`` int32, and
        ``answer``: ``(batch,)`` and ``(batch, time)`` int64 to classify and to tag,
        ``(batch, num_targets)`` float64 to regress.
    """
    lengths = [len(example.values) for example in examples]
    longest, num_features = max(lengths), examples[0].values.shape[1]
    sequence = np.full((len(examples), longest, num_features), np.nan, np.float32)
    for row, example in zip(sequence, examples, strict=True):
        row[: len(example.values)] = example.values
    if task == "tag":
        answer = np.full((len(examples), longest), IGNORED, np.int64)
        for tags, example in zip(answer, examples, strict=True):
            tags[: len(example.answer)] = example.answer
    else:
        answer = np.stack([example.answer for example in examples])
    return {
        "sequence": torch.from_numpy(sequence),
        "sequence_lens": torch.tensor(lengths, dtype=torch.int32),
        "answer": torch.from_numpy(answer),
    }
