"""What training leaves behind: ``forecaster.pt``, the weights, and ``forecaster.json``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from app.artifact.card import Accuracy, Training
from app.errors import InvalidInputError
from app.holiday_calendar import HolidayCalendar
from models.config import NetworkConfig
from models.forecaster import Forecaster

WEIGHTS_FILE = "forecaster.pt"
DESCRIPTION_FILE = "forecaster.json"

_Kind = TypeVar("_Kind", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A trained forecaster and all that is known about it.

    Attributes:
        network: The forecaster, in evaluation mode, on the CPU.
        freq: Frequency alias of the training data; None where time was a plain integer step.
        context_length: Most recent steps that a service should give the network.
        training: Where the weights come from.
        accuracy: Measured errors on test parts that training never saw.
        description: One or two sentences for the people who read the card.
        holidays: Where the calendar feature ``holiday`` comes from, if the network has it.
    """

    network: Forecaster
    freq: str | None
    context_length: int
    training: Training
    accuracy: tuple[Accuracy, ...] = ()
    description: str = ""
    holidays: HolidayCalendar | None = None


class _Description(BaseModel):
    """The JSON half of a checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    network: NetworkConfig
    freq: str | None
    context_length: int
    training: Training
    accuracy: tuple[Accuracy, ...]
    description: str
    holidays: HolidayCalendar | None = None


def save_checkpoint(checkpoint: Checkpoint, directory: Path) -> None:
    """Write ``checkpoint`` into ``directory``, as ``write_checkpoint`` does."""
    description = _Description(
        network=checkpoint.network.config,
        freq=checkpoint.freq,
        context_length=checkpoint.context_length,
        training=checkpoint.training,
        accuracy=checkpoint.accuracy,
        description=checkpoint.description,
        holidays=checkpoint.holidays,
    )
    write_checkpoint(
        checkpoint.network,
        description,
        weights_file=directory / WEIGHTS_FILE,
        description_file=directory / DESCRIPTION_FILE,
    )


def write_checkpoint(
    network: nn.Module, description: BaseModel, *, weights_file: Path, description_file: Path
) -> None:
    """Write the two files of a checkpoint into their directory, which is made if need be.

    Each file is replaced as a whole, the description last, so that an interrupted write is never
    read as complete.
    """
    description_file.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: value.cpu() for name, value in network.state_dict().items()}
    description_file.unlink(missing_ok=True)
    partial = weights_file.with_name(f"{weights_file.name}.partial")
    torch.save(weights, partial)
    partial.replace(weights_file)
    partial = description_file.with_name(f"{description_file.name}.partial")
    partial.write_text(description.model_dump_json(indent=2) + "\n")
    partial.replace(description_file)


def load_checkpoint(directory: Path) -> Checkpoint:
    """Read the checkpoint in ``directory``; its network is in evaluation mode, on the CPU.

    Raises:
        InvalidInputError: A file is missing, is not of this format, or the two do not belong
            together.
    """
    description = load_description(directory / DESCRIPTION_FILE, _Description)
    network = Forecaster(description.network)
    load_weights(network, directory / WEIGHTS_FILE, DESCRIPTION_FILE)
    return Checkpoint(
        network=network.eval(),
        freq=description.freq,
        context_length=description.context_length,
        training=description.training,
        accuracy=description.accuracy,
        description=description.description,
        holidays=description.holidays,
    )


def load_description(path: Path, kind: type[_Kind]) -> _Kind:
    """Read the JSON half of a checkpoint.

    Raises:
        InvalidInputError: The file is missing or not of this ``kind``.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InvalidInputError(
            f"{path.parent} holds no checkpoint: {path.name}: {error.strerror}"
        ) from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InvalidInputError(f"{path} is not of this format: {place}: {first['msg']}") from error


def load_weights(network: nn.Module, path: Path, description_file: str) -> None:
    """Load the weights of a checkpoint into a network that was made by its description.

    Raises:
        InvalidInputError: The file is missing or damaged, or does not belong to the description.
    """
    try:
        network.load_state_dict(_read_weights(path))
    except RuntimeError as error:
        raise InvalidInputError(
            f"{path} does not belong to the {description_file} beside it"
        ) from error


def _read_weights(path: Path) -> dict[str, Tensor]:
    """Read the weights of a checkpoint onto the CPU.

    Raises:
        InvalidInputError: The file is missing, damaged, or no file of weights.
    """
    try:
        weights: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InvalidInputError(
            f"{path.parent} holds no checkpoint: {path.name}: {error.strerror}"
        ) from error
    # torch.load reports a damaged or foreign file in many ways; all of them mean the same here.
    except Exception as error:
        raise InvalidInputError(f"{path} is damaged or not a file of weights") from error
    if not isinstance(weights, dict):
        raise InvalidInputError(f"{path} is not a file of weights")
    return weights
