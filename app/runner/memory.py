"""What a runner writes down for the one that takes its place, should it be lost."""

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from app.model_config import ModelConfig
from app.runner.repository import LoadedVersions, Remembered, Repository

_Content = TypeVar("_Content")


class ModelMemory(msgspec.Struct, frozen=True):
    """What was served of one model, and by which config."""

    versions: list[int]
    config: dict[str, Any]


def remember(memory: Path, content: object) -> None:
    """Write down ``content``; a runner that is killed meanwhile leaves what was there before."""
    staged = memory.with_suffix(f"{memory.suffix}.staged")
    staged.write_bytes(msgspec.json.encode(content))
    staged.replace(memory)


def recall(memory: Path, kind: type[_Content]) -> _Content | None:
    """Read what was written down; None where this runner takes nobody's place."""
    try:
        return msgspec.json.decode(memory.read_bytes(), type=kind)
    except FileNotFoundError:
        return None


def load_first(repository: Repository, memory: Path) -> list[LoadedVersions]:
    """Load what a runner begins with: what a lost one served, else everything in the repository.

    Raises:
        StartupError: There is no repository.
    """
    names = repository.names()
    memories = recall(memory, dict[str, ModelMemory])
    if memories is None:
        return [repository.load(name) for name in names]
    remembered = {
        name: Remembered(one.versions, ModelConfig.model_validate(one.config))
        for name, one in memories.items()
    }
    loaded = [
        repository.load(name, remembered=remembered[name]) for name in names if name in remembered
    ]
    return [one for one in loaded if one.models or not remembered[one.model_name].versions]
