"""The shape of a network that reads sequences, as one frozen value."""

from dataclasses import dataclass
from typing import Literal

from app.artifact.sequence_card import SequenceTask
from models.recurrent import Cell

Pooling = Literal["last", "mean", "max", "attention"]


@dataclass(frozen=True, kw_only=True)
class SequenceConfig:
    """What a network is made of; everything needed to build it again.

    Attributes:
        task: What it answers.
        features: Names of the columns it reads.
        classes: Names of its classes; none where it regresses.
        targets: Names of its numbers; none unless it regresses.
        has_gaps: Of each feature, whether training saw missing values: it has an indicator then.
        num_members: Networks in one, of which the answer is the mean: of their logits, or numbers.
        is_bidirectional: Whether each layer also reads from the end.
        pooling: How steps become one answer; None where each step has its own.
        dropout: Share of units that training hides, between layers and before the answer.
        input_noise: Standard deviation of noise on the scaled features while training, at each step
            anew.
        level_noise: That of noise which is the same at all steps of a sequence, for each feature.
    """

    task: SequenceTask
    features: tuple[str, ...]
    classes: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    has_gaps: tuple[bool, ...] = ()
    cell: Cell = "lstm"
    hidden_size: int = 64
    num_layers: int = 1
    num_members: int = 1
    is_bidirectional: bool = True
    pooling: Pooling | None = "mean"
    dropout: float = 0.3
    input_noise: float = 0.0
    level_noise: float = 0.0

    @property
    def num_inputs(self) -> int:
        """Numbers that the first layer reads at a step."""
        return len(self.features) + sum(self.has_gaps)

    @property
    def num_outputs(self) -> int:
        """Numbers in an answer."""
        return len(self.classes or self.targets)
