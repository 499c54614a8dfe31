"""The model versions that a runner serves, and how they change while it serves them.

A new version is opened and tried beside the one that serves, and takes its place between two turns
of the event loop. The old one goes on answering those who had chosen it before they heard of the
change, then it is drained and freed. A version that is refused changes nothing but the list.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from app import metrics
from app.errors import (
    ConfigError,
    InvalidInputError,
    ModelNotFoundError,
    ModelNotReadyError,
    ModelRefusedError,
)
from app.model_config import STABLE, LabelChange, ModelConfig
from app.runner.batcher import DynamicBatcher
from app.runner.engine import OrtEngine
from app.runner.memory import ModelMemory, remember
from app.runner.queue import BatchLimits
from app.runner.repository import LoadedModel, LoadedVersions, Remembered, Repository
from app.runner.warming import WARM_UP_S, warm_up

logger = logging.getLogger(__name__)

Key = tuple[str, int]
"""Model name and version."""


@dataclass(frozen=True, slots=True)
class ServedVersion:
    """One version that can be run; ``closing`` ends its batcher."""

    model: LoadedModel
    engine: OrtEngine
    batcher: DynamicBatcher
    closing: AsyncExitStack


@dataclass(frozen=True, slots=True)
class ListedModel:
    """One model: its versions, served or refused, and how they are served.

    ``config_refusal`` says why the config that lies beside them now does not count. There are no
    versions where the config leaves the model to other GPUs.
    """

    versions: Sequence[LoadedModel]
    config: ModelConfig
    config_refusal: str = ""


class ModelShelf:
    """What one runner serves.

    Args:
        repository: Where models come from.
        make_batcher: Makes what runs one version.
        limits_of: Says within which bounds a model runs.
        memory: File that keeps what is served, for the runner that replaces a lost one.
        retire_after_s: How long a version that was replaced still answers.
    """

    def __init__(
        self,
        repository: Repository,
        make_batcher: Callable[[str, int, OrtEngine, BatchLimits], DynamicBatcher],
        *,
        limits_of: Callable[[ModelConfig], BatchLimits],
        memory: Path,
        retire_after_s: float,
    ) -> None:
        self.changed: Callable[[], None] = lambda: None
        """Called after every change."""
        self._repository = repository
        self._make_batcher = make_batcher
        self._limits_of = limits_of
        self._memory = memory
        self._retire_after_s = retire_after_s
        self._listed: dict[str, ListedModel] = {}
        self._served: dict[Key, ServedVersion] = {}
        self._retiring: dict[Key, ServedVersion] = {}
        self._retired: set[Key] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changing = asyncio.Lock()
        self._is_closing = asyncio.Event()
        self._is_failing = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.drain()
        for served in self._all():
            await served.closing.aclose()

    def listed(self) -> Sequence[ListedModel]:
        """List all models."""
        return list(self._listed.values())

    def models(self) -> list[LoadedModel]:
        """List every version that is served or was refused."""
        return [version for model in self._listed.values() for version in model.versions]

    def batchers(self) -> Iterator[DynamicBatcher]:
        """Return what runs now, those of replaced versions included."""
        return (served.batcher for served in self._all())

    def find(self, model_name: str, model_version: int) -> ServedVersion:
        """Return a version that can be run, be it one that was replaced a moment ago.

        Raises:
            ModelNotReadyError: It was replaced some time ago.
            ModelNotFoundError: There is none.
        """
        key = (model_name, model_version)
        if served := self._served.get(key):
            return served
        if key in self._retired:
            raise ModelNotReadyError("that version of the model was replaced meanwhile; try again")
        if served := self._retiring.get(key):
            return served
        raise ModelNotFoundError("this runner does not serve that model version")

    async def put(self, *models: LoadedVersions) -> None:
        """Serve what ``Repository.load`` gave for each model; each part of it as it is.

        Only then is it remembered: a runner that is lost before leaves what it has begun with.
        """
        async with self._changing:
            for loaded in models:
                await self._put(loaded)
            self._tell()

    async def load(self, model_name: str) -> None:
        """Serve the versions of a model that its config asks for, in place of those served now.

        For each that is missing or refused, one that is served now goes on.

        Raises:
            ModelNotFoundError: The repository holds no such model.
            ModelRefusedError: A version is not sound.
            ConfigError: The config is wrong; everything is as it was.
        """
        async with self._changing:
            held = self._held(model_name)
            loaded = await asyncio.to_thread(self._repository.load, model_name, held)
            await self._put(loaded)
            self._tell()
        refused = [model for model in loaded.models if model.engine is None]
        metrics.MODEL_LOADS.labels(model_name, "refused" if refused else "loaded").inc()
        if loaded.config_refusal:
            raise ConfigError(f"model {model_name} is refused: {loaded.config_refusal}")
        for model in refused:
            raise _refusal_of(model)

    async def label(self, model_name: str, change: LabelChange) -> None:
        """Change one label of a model that is served, and nothing else.

        Raises:
            ModelNotFoundError: The model is not served, or has no label to remove.
            ModelRefusedError: The label's version is not sound.
            ConfigError: The labels would not go together.
            InvalidInputError: The version would get traffic by the change alone.
        """
        async with self._changing:
            held = self._held(model_name)
            listed = self._listed.get(model_name)
            if listed is None or (listed.versions and not held):
                raise ModelNotFoundError("no model of this name is served")
            before = listed.config
            config = before.labelled(change)
            if not listed.versions:
                self._listed[model_name] = replace(listed, config=config)
                self._tell()
                return
            served = [model.model_version for model in held]
            _check_share(change, config, served)
            # What had a share goes with its label: nobody has loaded it to take all of the traffic.
            loaded_before = [v for v in served if v not in before.shared_versions]
            remembered = Remembered(loaded_before or served, config)
            loaded = await asyncio.to_thread(
                self._repository.load, model_name, held, remembered=remembered
            )
            for model in loaded.models:
                if model.model_version == change.version and model.engine is None:
                    raise _refusal_of(model)
            await self._put(loaded)
            self._tell()

    async def unload(self, model_name: str) -> None:
        """Serve a model no more.

        Raises:
            ModelNotFoundError: It is not served.
        """
        async with self._changing:
            if self._listed.pop(model_name, None) is None:
                raise ModelNotFoundError("no model of this name is served")
            for model in self._held(model_name):
                self._retire((model_name, model.model_version))
            self._tell()
            logger.info("model %s unloaded", model_name)

    async def drain(self) -> None:
        """Answer what is queued, and refuse what comes."""
        self._is_closing.set()
        await asyncio.gather(*(batcher.drain() for batcher in self.batchers()), *self._tasks)

    def _held(self, model_name: str) -> list[LoadedModel]:
        return [served.model for key, served in self._served.items() if key[0] == model_name]

    async def _put(self, loaded: LoadedVersions) -> None:
        name, limits = loaded.model_name, self._limits_of(loaded.config)
        if loaded.config_refusal and name in self._listed:
            self._listed[name] = replace(self._listed[name], config_refusal=loaded.config_refusal)
            return
        await self._warm_up(loaded, limits)
        sound = {m.model_version: m for m in loaded.models if m.engine is not None}
        self._retire_all_but(name, sound, loaded.num_missing)
        for model in loaded.models:
            if model.engine is not None:
                await self._serve(model, model.engine, limits)
        refused = [model for model in loaded.models if model.engine is None]
        serving = sorted(self._held(name), key=lambda model: model.model_version)
        self._listed[name] = ListedModel([*refused, *serving], loaded.config, loaded.config_refusal)

    async def _warm_up(self, loaded: LoadedVersions, limits: BatchLimits) -> None:
        held = {model.engine for model in self._held(loaded.model_name)}
        for model in loaded.models:
            engine = model.engine
            if engine is not None and engine not in held:
                budget_s = WARM_UP_S[engine.device]
                await asyncio.to_thread(warm_up, engine, limits, budget_s=budget_s)

    def _retire_all_but(
        self, model_name: str, sound: Mapping[int, LoadedModel], num_missing: int
    ) -> None:
        """Retire what has no place any more; the newest others stand in for what is missing."""
        held = {model.model_version: model for model in self._held(model_name)}
        others = sorted(held.keys() - sound.keys(), reverse=True)
        leaving = [version for version in held if version in sound]
        leaving = [version for version in leaving if not _is_same(held[version], sound[version])]
        for version in [*leaving, *others[num_missing:]]:
            self._retire((model_name, version))

    async def _serve(self, model: LoadedModel, engine: OrtEngine, limits: BatchLimits) -> None:
        key = (model.model_name, model.model_version)
        if served := self._served.get(key):  # the same file, not to be in memory twice
            served.batcher.change_limits(limits)
            return
        closing = AsyncExitStack()
        batcher = await closing.enter_async_context(self._make_batcher(*key, engine, limits))
        self._served[key] = ServedVersion(model, engine, batcher, closing)

    def _retire(self, key: Key) -> None:
        served = self._retiring[key] = self._served.pop(key)
        self._retired.discard(key)
        task = asyncio.create_task(self._let_go(key, served))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _let_go(self, key: Key, served: ServedVersion) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._is_closing.wait(), self._retire_after_s)
        if self._retiring.get(key) is served:  # else another one of its number has its own time
            self._retired.add(key)  # a batcher that drains would say that the runner is stopping
        await served.batcher.drain()
        await served.closing.aclose()
        if self._retiring.get(key) is served:
            del self._retiring[key]
        logger.info("model %s version %d freed", *key)

    def _tell(self) -> None:
        self._remember()
        self.changed()

    def _remember(self) -> None:
        """Write down what is served; where that fails it goes on, and the next change tries it."""
        try:
            remember(self._memory, dict(self._memories()))
        except OSError as error:
            if not self._is_failing:
                logger.warning("what is served can not be kept for another runner: %s", error)
            self._is_failing = True
            return
        self._is_failing = False

    def _memories(self) -> Iterator[tuple[str, ModelMemory]]:
        for name, model in self._listed.items():
            versions = sorted(held.model_version for held in self._held(name))
            if versions or not model.versions:
                config = model.config.model_dump(mode="json", exclude_unset=True)
                yield name, ModelMemory(versions, config)

    def _all(self) -> list[ServedVersion]:
        return [*self._served.values(), *self._retiring.values()]


def _is_same(current: LoadedModel, model: LoadedModel) -> bool:
    if current.engine is None or model.engine is None:
        return False
    return (current.engine.device, current.engine.digest) == (
        model.engine.device,
        model.engine.digest,
    )


def _refusal_of(model: LoadedModel) -> ModelRefusedError:
    name, version = model.model_name, model.model_version
    return ModelRefusedError(f"model {name} version {version} is refused: {model.reason}")


def _check_share(change: LabelChange, config: ModelConfig, served: Sequence[int]) -> None:
    """Check that a version which is not served yet gets no traffic that nobody gave it."""
    is_new = change.version is not None and change.version not in served
    if is_new and change.label != STABLE and change.label not in config.traffic:
        raise InvalidInputError(
            f"version {change.version} is not served yet: say which share of the requests without a"
            " version it gets, 0 for those alone that name it"
        )
