"""Model versions on disk, and what became of each when it was loaded."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.artifact import MODEL_FILE, MODEL_NAME_PATTERN, find_versions
from app.errors import ArtifactError, StartupError
from app.runner.engine import Device, OrtEngine
from app.runner.loading import load_engine

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """One version of one model; ``engine`` is None and ``reason`` set where it was refused."""

    model_name: str
    model_version: int
    engine: OrtEngine | None
    reason: str = ""


def load_repository(
    directory: Path, device: Device, *, gpu_mem_limit_bytes: int = 0
) -> list[LoadedModel]:
    """Load the newest sound version of every model; a broken one is named and passed over.

    Raises:
        StartupError: There is no such directory.
    """
    try:
        entries = sorted(directory.iterdir())
    except OSError as error:
        raise StartupError(f"model repository {directory}: {error.strerror}") from error
    loaded: list[LoadedModel] = []
    for entry in entries:
        if entry.is_dir() and MODEL_NAME_PATTERN.fullmatch(entry.name):
            loaded += _load_newest(entry, device, gpu_mem_limit_bytes)
    return loaded


def _load_newest(
    model_directory: Path, device: Device, gpu_mem_limit_bytes: int
) -> Iterator[LoadedModel]:
    name = model_directory.name
    for version in reversed(find_versions(model_directory)):
        path = model_directory / str(version) / MODEL_FILE
        try:
            engine = load_engine(path, device, gpu_mem_limit_bytes=gpu_mem_limit_bytes)
        except ArtifactError as error:
            logger.error("model %s version %d refused: %s", name, version, error)  # noqa: TRY400
            yield LoadedModel(name, version, None, str(error))
        else:
            logger.info("model %s version %d loaded", name, version)
            yield LoadedModel(name, version, engine)
            return
