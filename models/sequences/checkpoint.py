"""What training leaves behind: ``sequences.pt``, the weights, and ``sequences.json``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from app.artifact.card import Training
from app.artifact.sequence_card import TaskAccuracy
from models.checkpoint import load_description, load_weights, write_checkpoint
from models.sequences.config import SequenceConfig
from models.sequences.network import SequenceNetwork

WEIGHTS_FILE = "sequences.pt"
DESCRIPTION_FILE = "sequences.json"


@dataclass(frozen=True, slots=True)
class SequenceCheckpoint:
    """A trained network and all that is known about it.

    Attributes:
        network: In evaluation mode, on the CPU.
        max_length: Most steps of a sequence that a service should give the network.
        training: Where the weights come from.
        item: Column of the training data that names the sequence.
        time: Column that orders its steps; None where the order of the rows does.
        targets: Columns of the answers.
        baseline: What to answer without reading, see ``models.sequences.scores.measure``.
        accuracy: Measured on test parts that training never saw.
        description: One or two sentences for the people who read the card.
    """

    network: SequenceNetwork
    max_length: int
    training: Training
    item: str
    time: str | None
    targets: tuple[str, ...]
    baseline: tuple[float, ...]
    accuracy: tuple[TaskAccuracy, ...] = ()
    description: str = ""


class _Description(BaseModel):
    """The JSON half of a checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    network: SequenceConfig
    max_length: int
    training: Training
    item: str
    time: str | None
    targets: tuple[str, ...]
    baseline: tuple[float, ...]
    accuracy: tuple[TaskAccuracy, ...]
    description: str


def is_sequence_checkpoint(directory: Path) -> bool:
    """Tell whether ``directory`` holds a checkpoint of a sequence model."""
    return (directory / DESCRIPTION_FILE).exists()


def save_sequence_checkpoint(checkpoint: SequenceCheckpoint, directory: Path) -> None:
    """Write ``checkpoint`` into ``directory``, as ``models.checkpoint.write_checkpoint`` does."""
    description = _Description(
        network=checkpoint.network.config,
        max_length=checkpoint.max_length,
        training=checkpoint.training,
        item=checkpoint.item,
        time=checkpoint.time,
        targets=checkpoint.targets,
        baseline=checkpoint.baseline,
        accuracy=checkpoint.accuracy,
        description=checkpoint.description,
    )
    write_checkpoint(
        checkpoint.network,
        description,
        weights_file=directory / WEIGHTS_FILE,
        description_file=directory / DESCRIPTION_FILE,
    )


def load_sequence_checkpoint(directory: Path) -> SequenceCheckpoint:
    """Read the checkpoint in ``directory``; its network is in evaluation mode, on the CPU.

    Raises:
        InvalidInputError: A file is missing, is not of this format, or the two do not belong
            together.
    """
    description = load_description(directory / DESCRIPTION_FILE, _Description)
    network = SequenceNetwork(description.network)
    load_weights(network, directory / WEIGHTS_FILE, DESCRIPTION_FILE)
    return SequenceCheckpoint(
        network=network.eval(),
        max_length=description.max_length,
        training=description.training,
        item=description.item,
        time=description.time,
        targets=description.targets,
        baseline=description.baseline,
        accuracy=description.accuracy,
        description=description.description,
    )
