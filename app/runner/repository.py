"""Model versions on disk, and what became of each when it was loaded."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from app.artifact import MODEL_FILE, MODEL_NAME_PATTERN, find_versions
from app.errors import ArtifactError, ModelNotFoundError, StartupError
from app.runner.engine import Device, OrtEngine
from app.runner.loading import load_engine
from app.runner.model_file import read_model_file

logger = logging.getLogger(__name__)

Stamp = tuple[tuple[int, int, int], ...]
"""Version, time of change in nanoseconds and bytes of every model file of one model."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """One version of one model; ``engine`` is None and ``reason`` set where it was refused."""

    model_name: str
    model_version: int
    engine: OrtEngine | None
    reason: str = ""


class Repository:
    """The folder of ``NAME/VERSION/model.onnx`` files.

    Args:
        directory: The folder.
        device: Where models are opened.
        gpu_mem_limit_bytes: As in Settings.
        read_model: Returns the bytes of a model file, or refuses it: that of a ``Vetter``. Without
            one, files are opened untried.
    """

    def __init__(
        self,
        directory: Path,
        device: Device,
        *,
        gpu_mem_limit_bytes: int = 0,
        read_model: Callable[[Path], bytes] | None = None,
    ) -> None:
        self._directory = directory
        self._device: Device = device
        self._gpu_mem_limit_bytes = gpu_mem_limit_bytes
        self._read_model = read_model or partial(read_model_file, root=directory)

    def names(self) -> list[str]:
        """List the models that have a version.

        Raises:
            StartupError: There is no such directory.
        """
        try:
            entries = sorted(self._directory.iterdir())
        except OSError as error:
            raise StartupError(f"model repository {self._directory}: {error.strerror}") from error
        return [
            entry.name
            for entry in entries
            if MODEL_NAME_PATTERN.fullmatch(entry.name) and find_versions(entry)
        ]

    def stamp(self, model_name: str) -> Stamp:
        """Tell what the model's files look like from outside; empty where there are none."""
        model_directory = self._directory / model_name
        stamps: list[tuple[int, int, int]] = []
        for version in find_versions(model_directory):
            try:
                status = (model_directory / str(version) / MODEL_FILE).stat()
            except OSError:
                continue  # it went away between two looks
            stamps.append((version, status.st_mtime_ns, status.st_size))
        return tuple(stamps)

    def load(self, model_name: str, at_most: int | None = None) -> list[LoadedModel]:
        """Open the newest sound version of a model, and name the newer ones that were refused.

        Args:
            model_name: The model.
            at_most: Newest version to look at.

        Returns: At most one version with an engine, which comes last.

        Raises:
            ModelNotFoundError: There is no file of that model.
        """
        if not MODEL_NAME_PATTERN.fullmatch(model_name):
            raise ModelNotFoundError("a model of this name can not be in the repository")
        versions = find_versions(self._directory / model_name)
        if not versions:
            raise ModelNotFoundError("the repository holds no version of this model")
        wanted = [v for v in versions if at_most is None or v <= at_most]
        return list(self._load_newest(model_name, wanted))

    def _load_newest(self, model_name: str, versions: list[int]) -> Iterator[LoadedModel]:
        for version in reversed(versions):
            path = self._directory / model_name / str(version) / MODEL_FILE
            try:
                model = self._read_model(path)
                engine = load_engine(
                    model, self._device, gpu_mem_limit_bytes=self._gpu_mem_limit_bytes
                )
            except ArtifactError as error:
                logger.error("model %s version %d refused: %s", model_name, version, error)  # noqa: TRY400
                yield LoadedModel(model_name, version, None, str(error))
            else:
                logger.info("model %s version %d loaded", model_name, version)
                yield LoadedModel(model_name, version, engine)
                return
