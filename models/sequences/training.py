"""How a network learns sequences: Lightning around shuffled batches, stopped by held-back ones."""

from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from typing_extensions import override

from models.learning_rate import one_cycle
from models.sequences.examples import ExampleSet, stack_examples
from models.sequences.network import SequenceNetwork, answer_loss

_VALIDATION_BATCH = 256


@dataclass(frozen=True, kw_only=True)
class SequenceTraining:
    """How to train; what is trained is a ``SequenceConfig``.

    Attributes:
        max_steps: Optimiser steps, fewer if the held-back sequences stop improving.
        batch_size: Sequences in a step.
        learning_rate: Peak of the one-cycle schedule.
        weight_decay: That of AdamW.
        steps_per_check: Steps between two looks at the held-back sequences.
        patience: Looks without improvement after which training stops.
        held_back_share: Of the sequences, to stop by and to calibrate with.
        seed: Of everything random.
    """

    max_steps: int = 3000
    batch_size: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    steps_per_check: int = 25
    patience: int = 20
    held_back_share: float = 0.2
    seed: int = 1

    @property
    def num_checks(self) -> int:
        """Looks at the held-back sequences in a full run."""
        return -(-self.max_steps // self.steps_per_check)


class _ShuffledBatches(Dataset[dict[str, Tensor]]):
    """The batch of each step; passes over all sequences, each in an order of its own."""

    def __init__(self, items: ExampleSet, options: SequenceTraining) -> None:
        self._items = items
        self._size = min(options.batch_size, len(items.examples))
        self._seed = options.seed

    def __len__(self) -> int:
        return len(self._items.examples) // self._size

    @override
    def __getitem__(self, step: int) -> dict[str, Tensor]:
        turn, place = divmod(step, len(self))
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + turn)
        order = torch.randperm(len(self._items.examples), generator=generator)
        chosen = order[place * self._size : (place + 1) * self._size].tolist()
        return stack_examples(self._items.task, [self._items.examples[n] for n in chosen])


class _HeldBackBatches(Dataset[dict[str, Tensor]]):
    """All sequences in batches of similar length."""

    def __init__(self, items: ExampleSet) -> None:
        self._batches = list_batches(items)

    def __len__(self) -> int:
        return len(self._batches)

    @override
    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self._batches[index]


def list_batches(items: ExampleSet) -> list[dict[str, Tensor]]:
    """Return all sequences of ``items``, in order, as batches of ``stack_examples``."""
    return [
        stack_examples(items.task, items.examples[first : first + _VALIDATION_BATCH])
        for first in range(0, len(items.examples), _VALIDATION_BATCH)
    ]


class SequenceModule(LightningModule):
    """One fit of one network; an epoch is ``steps_per_check`` batches."""

    def __init__(
        self,
        network: SequenceNetwork,
        learned: ExampleSet,
        held_back: ExampleSet,
        options: SequenceTraining,
    ) -> None:
        super().__init__()
        self.network = network
        self.options = options
        self._batches = _ShuffledBatches(learned, options)
        self._held_back = _HeldBackBatches(held_back)

    @override
    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        options = self.options
        first = self.current_epoch * options.steps_per_check
        steps = range(first, min(first + options.steps_per_check, options.max_steps))
        return DataLoader(self._batches, batch_size=None, sampler=list(steps))

    @override
    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return DataLoader(self._held_back, batch_size=None, shuffle=False)

    @override
    def on_train_epoch_start(self) -> None:
        # What is random in an epoch depends on its number alone, so that resuming changes nothing.
        torch.manual_seed(self.options.seed * 1_000_003 + self.current_epoch)

    @override
    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = answer_loss(self.network, batch)
        size = len(batch["answer"])
        self.log("training_loss", loss, on_step=False, on_epoch=True, batch_size=size)
        return loss

    @override
    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        loss = answer_loss(self.network, batch)
        self.log("validation_loss", loss, batch_size=len(batch["answer"]))

    @override
    def configure_optimizers(self) -> Any:
        options = self.options
        optimiser = torch.optim.AdamW(
            self.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
        )
        schedule = one_cycle(optimiser, options.learning_rate, options.max_steps)
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }
