"""Model versions on disk, and what became of each when it was loaded."""

import hashlib
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from app.artifact.directory import MODEL_FILE, MODEL_NAME_PATTERN, find_versions
from app.errors import ArtifactError, ConfigError, ModelNotFoundError, StartupError
from app.model_config import CONFIG_FILE, ModelConfig, load_config
from app.runner.engine import Device, OrtEngine
from app.runner.loading import load_engine
from app.runner.model_file import read_model_file
from app.runner.place import Gpu

logger = logging.getLogger(__name__)

Stamp = tuple[tuple[int, int, int], ...]
"""Version, time of change in nanoseconds and bytes of every model file of one model.

The config of the model stands among them as version 0.
"""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """One version of one model; ``engine`` is None and ``reason`` set where it was refused."""

    model_name: str
    model_version: int
    engine: OrtEngine | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LoadedVersions:
    """What became of one model.

    Attributes:
        models: Refused versions, newest first, then sound ones, oldest first; empty where the
            config leaves the model to other GPUs.
        config: What it was loaded by; the default where the file is wrong.
        config_refusal: Why the file is wrong; then no version was looked at.
        num_missing: How many versions that should be served have no sound file.
    """

    model_name: str
    models: Sequence[LoadedModel]
    config: ModelConfig = field(default_factory=ModelConfig)
    config_refusal: str = ""
    num_missing: int = 0


@dataclass(frozen=True, slots=True)
class Remembered:
    """What was served of a model, and by which config."""

    versions: Collection[int]
    config: ModelConfig

    def order(self, versions: Iterable[int]) -> list[int]:
        """Return those of ``versions`` that may stand for what was served, the best of them last.

        None is newer than what was served; older ones are for where that is gone.
        """
        newest = max(self.versions, default=0)
        older = self.config.versions.latest is not None
        return sorted(
            (v for v in versions if v in self.versions or (older and v <= newest)),
            key=lambda version: (version in self.versions, version),
        )


class Repository:
    """The folder of ``NAME/VERSION/model.onnx`` files.

    Args:
        directory: The folder.
        device: Where models are opened that do not say otherwise.
        gpu: Which GPU that is, where it is one.
        read_model: Returns the bytes of a model file, or refuses it: that of a ``Vetter``. Without
            one, files are opened untried.
        load: Opens the bytes of a model on a device, or refuses them.
    """

    def __init__(
        self,
        directory: Path,
        device: Device,
        *,
        gpu: Gpu | None = None,
        read_model: Callable[[Path], bytes] | None = None,
        load: Callable[[bytes, Device], OrtEngine] = load_engine,
    ) -> None:
        self._directory = directory
        self._device: Device = device
        self._gpu = gpu or Gpu()
        self._load = load
        self._read_model = read_model or partial(read_model_file, root=directory)
        self._unreadable: set[str] = set()

    def names(self) -> list[str]:
        """List the models that have a version; a folder that can not be read has none.

        Raises:
            StartupError: There is no such directory.
        """
        return [name for name in self._folders() if self._find_versions(name)]

    def stamps(self) -> dict[str, Stamp]:
        """Tell what the files of each model look like from outside.

        A model whose folder can not be read has an empty stamp: it is not gone.

        Raises:
            StartupError: There is no repository.
        """
        found = {name: self._find_versions(name) for name in self._folders()}
        return {
            name: self._stamp(name, versions)
            for name, versions in found.items()
            if versions or name in self._unreadable
        }

    def _folders(self) -> list[str]:
        """List what may be models by their names."""
        try:
            names = sorted(entry.name for entry in self._directory.iterdir())
        except OSError as error:
            raise StartupError(f"model repository {self._directory}: {error.strerror}") from error
        return [name for name in names if MODEL_NAME_PATTERN.fullmatch(name)]

    def _find_versions(self, model_name: str) -> list[int]:
        """List the versions of a model; where its folder can not be read, none, and log that."""
        try:
            versions = find_versions(self._directory / model_name)
        except OSError as error:
            if model_name not in self._unreadable:
                logger.warning("model %s can not be read: %s", model_name, error)
            self._unreadable.add(model_name)
            return []
        self._unreadable.discard(model_name)
        return versions

    def _stamp(self, model_name: str, versions: Iterable[int]) -> Stamp:
        if model_name in self._unreadable:
            return ()
        directory = self._directory / model_name
        files = {n: directory / str(n) / MODEL_FILE for n in versions}
        stamps: list[tuple[int, int, int]] = []
        for version, file in ({0: directory / CONFIG_FILE} | files).items():
            try:
                status = file.stat()
            except OSError:
                continue  # there is no config, or the file went away between two looks
            stamps.append((version, status.st_mtime_ns, status.st_size))
        return tuple(stamps)

    def load(
        self,
        model_name: str,
        held: Iterable[LoadedModel] = (),
        *,
        remembered: Remembered | None = None,
    ) -> LoadedVersions:
        """Open the versions of a model that its config asks for.

        Args:
            model_name: The model.
            held: Versions that are open; those whose files are the same stay open.
            remembered: What to come as near to as the files allow, in place of the config on disk;
                then all that is held stays open, whatever its file is now.

        Raises:
            ModelNotFoundError: There is no file of that model.
        """
        if not MODEL_NAME_PATTERN.fullmatch(model_name):
            raise ModelNotFoundError("a model of this name can not be in the repository")
        versions = self._find_versions(model_name)
        if not versions:
            raise ModelNotFoundError("the repository holds no version of this model")
        try:
            config = remembered.config if remembered else load_config(self._directory / model_name)
            device = self._device_of(config)
        except ConfigError as error:
            logger.error("model %s refused: %s", model_name, error)  # noqa: TRY400
            refused = LoadedModel(model_name, versions[-1], None, str(error))
            return LoadedVersions(model_name, [refused], config_refusal=str(error), num_missing=1)
        if self._is_elsewhere(config):
            return LoadedVersions(model_name, (), config)
        opening = _Opening(self, model_name, device)
        if remembered is None:
            opening.hold(model for model in held if self._is_unchanged(model))
        else:
            opening.hold(held)
            versions = remembered.order({*versions, *opening.held})
        num_missing = opening.open(config, versions)
        return LoadedVersions(model_name, opening.models(), config, num_missing=num_missing)

    def open(self, model_name: str, version: int, device: Device) -> LoadedModel:
        """Open one version."""
        path = self._directory / model_name / str(version) / MODEL_FILE
        try:
            model = self._read_model(path)
            engine = self._load(model, device)
        except ArtifactError as error:
            logger.error("model %s version %d refused: %s", model_name, version, error)  # noqa: TRY400
            return LoadedModel(model_name, version, None, str(error))
        logger.info("model %s version %d loaded", model_name, version)
        return LoadedModel(model_name, version, engine)

    def _is_unchanged(self, model: LoadedModel) -> bool:
        path = self._directory / model.model_name / str(model.model_version) / MODEL_FILE
        try:
            digest = hashlib.sha256(read_model_file(path, root=self._directory)).hexdigest()
        except ArtifactError:
            return False
        return model.engine is not None and model.engine.file_digest == digest

    def _device_of(self, config: ModelConfig) -> Device:
        if self._device == "cuda":
            self._check_gpus(config)
        if config.device == "auto":
            return self._device
        if config.device == "cuda" and self._device == "cpu":
            raise ConfigError(f"{CONFIG_FILE}: device: cuda, but the service runs on the CPU")
        return config.device

    def _check_gpus(self, config: ModelConfig) -> None:
        unknown = [n for n in config.devices or () if n >= self._gpu.count]
        if unknown:
            raise ConfigError(
                f"{CONFIG_FILE}: devices: there is no GPU {unknown[0]}, the last one here is"
                f" {self._gpu.count - 1}"
            )

    def _is_elsewhere(self, config: ModelConfig) -> bool:
        """Tell whether the config leaves a model to other GPUs than this one."""
        is_placed = self._device == "cuda" and config.devices is not None
        return is_placed and self._gpu.index not in (config.devices or ())


class _Opening:
    """The versions of one model, each opened once and only if it is not open already."""

    def __init__(self, repository: Repository, model_name: str, device: Device) -> None:
        self.held: dict[int, LoadedModel] = {}
        self._repository = repository
        self._model_name = model_name
        self._device: Device = device
        self._opened: dict[int, LoadedModel] = {}

    def hold(self, models: Iterable[LoadedModel]) -> None:
        """Take ``models`` as they are, where they are open on the right device."""
        self.held = {
            m.model_version: m for m in models if m.engine and m.engine.device == self._device
        }

    def open(self, config: ModelConfig, on_disk: Sequence[int]) -> int:
        """Open what ``config`` asks for, preferring the last ones of ``on_disk``.

        Returns: How many versions that should be served have no sound file.
        """
        policy = config.versions
        chosen = on_disk if policy.all else policy.named or ()
        fixed = [self._is_sound(version) for version in sorted({*chosen, *config.labels.values()})]
        candidates = [v for v in on_disk if v not in config.shared_versions]
        num_missing = min(policy.latest or 0, len(candidates))
        for version in reversed(candidates):
            if not num_missing:
                break
            num_missing -= self._is_sound(version)
        return num_missing + fixed.count(False)

    def models(self) -> list[LoadedModel]:
        """Return what was opened: refused versions, newest first, then sound ones, oldest first."""
        models = [self._opened[version] for version in sorted(self._opened)]
        refused = [model for model in reversed(models) if model.engine is None]
        return refused + [model for model in models if model.engine is not None]

    def _is_sound(self, version: int) -> bool:
        if version not in self._opened:
            self._opened[version] = self.held.get(version) or self._repository.open(
                self._model_name, version, self._device
            )
        return self._opened[version].engine is not None
