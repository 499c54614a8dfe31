"""The model versions that a runner serves, and how they change while it serves them.

A new version is opened and tried beside the one that serves, and takes its place between two turns
of the event loop. The old one goes on answering those who had chosen it before they heard of the
change, then it is drained and freed. A version that is refused changes nothing but the list.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec

from app import metrics
from app.errors import ModelNotFoundError, ModelNotReadyError, ModelRefusedError
from app.runner.batcher import DynamicBatcher
from app.runner.engine import Engine, OrtEngine
from app.runner.repository import LoadedModel, Repository

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


class ModelShelf:
    """What one runner serves.

    Args:
        repository: Where models come from.
        make_batcher: Makes what runs one version.
        memory: File that keeps the versions served, for the runner that replaces a lost one.
        retire_after_s: How long a version that was replaced still answers.
    """

    def __init__(
        self,
        repository: Repository,
        make_batcher: Callable[[str, int, Engine], DynamicBatcher],
        *,
        memory: Path,
        retire_after_s: float,
    ) -> None:
        self.changed: Callable[[], None] = lambda: None
        """Called after every change."""
        self._repository = repository
        self._make_batcher = make_batcher
        self._memory = memory
        self._retire_after_s = retire_after_s
        self._listed: dict[str, list[LoadedModel]] = {}
        self._served: dict[Key, ServedVersion] = {}
        self._retiring: dict[Key, ServedVersion] = {}
        self._retired: set[Key] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changing = asyncio.Lock()
        self._is_closing = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.drain()
        for served in self._all():
            await served.closing.aclose()

    def models(self) -> list[LoadedModel]:
        """List what is served and what was refused."""
        return [model for models in self._listed.values() for model in models]

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

    async def put(self, models: list[LoadedModel]) -> None:
        """Serve what ``Repository.load`` gave for one model; each part of it as it is."""
        async with self._changing:
            await self._put(models)

    async def load(self, model_name: str) -> None:
        """Serve the newest sound version of a model in place of what is served now.

        Raises:
            ModelNotFoundError: The repository holds no such model.
            ModelRefusedError: Its newest version is not sound; what was served before still is.
        """
        async with self._changing:
            models = await asyncio.to_thread(self._repository.load, model_name)
            await self._put(models)
        outcome = "refused" if models[0].engine is None else "loaded"
        metrics.MODEL_LOADS.labels(model_name, outcome).inc()
        if models[0].engine is None:
            version, reason = models[0].model_version, models[0].reason
            raise ModelRefusedError(f"model {model_name} version {version} is refused: {reason}")

    async def unload(self, model_name: str) -> None:
        """Serve a model no more.

        Raises:
            ModelNotFoundError: It is not served.
        """
        async with self._changing:
            if self._listed.pop(model_name, None) is None:
                raise ModelNotFoundError("no model of this name is served")
            self._retire(model_name)
            self._tell()
            logger.info("model %s unloaded", model_name)

    async def drain(self) -> None:
        """Answer what is queued, and refuse what comes."""
        self._is_closing.set()
        await asyncio.gather(*(batcher.drain() for batcher in self.batchers()), *self._tasks)

    async def _put(self, models: list[LoadedModel]) -> None:
        name, newest = models[0].model_name, models[-1]
        current = next((s for s in self._served.values() if s.model.model_name == name), None)
        if newest.engine is not None and not _is_same(current, newest):
            self._retire(name)
            await self._serve(newest, newest.engine)
        elif current is not None:  # not the same file opened once more: it would stay in memory
            models = [*(model for model in models if model.engine is None), current.model]
        self._listed[name] = models
        self._tell()

    async def _serve(self, model: LoadedModel, engine: OrtEngine) -> None:
        key = (model.model_name, model.model_version)
        closing = AsyncExitStack()
        batcher = await closing.enter_async_context(self._make_batcher(*key, engine))
        self._served[key] = ServedVersion(model, engine, batcher, closing)

    def _retire(self, model_name: str) -> None:
        for key in [key for key in self._served if key[0] == model_name]:
            served = self._retiring[key] = self._served.pop(key)
            self._retired.discard(key)
            task = asyncio.create_task(self._let_go(key, served))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _let_go(self, key: Key, served: ServedVersion) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._is_closing.wait(), self._retire_after_s)
        self._retired.add(key)  # a batcher that drains would answer that the runner is stopping
        await served.batcher.drain()
        await served.closing.aclose()
        if self._retiring.get(key) is served:
            del self._retiring[key]
        logger.info("model %s version %d freed", *key)

    def _tell(self) -> None:
        staged = self._memory.with_suffix(".staged")
        staged.write_bytes(msgspec.json.encode(dict(self._served.keys())))
        staged.replace(self._memory)  # a runner that is killed here must leave it whole
        self.changed()

    def _all(self) -> list[ServedVersion]:
        return [*self._served.values(), *self._retiring.values()]


def load_first(repository: Repository, memory: Path) -> list[list[LoadedModel]]:
    """Load what a runner begins with: what a lost one served, else everything in the repository.

    Raises:
        StartupError: There is no repository.
    """
    names = repository.names()
    try:
        versions = msgspec.json.decode(memory.read_bytes(), type=dict[str, int])
    except FileNotFoundError:
        return [repository.load(name) for name in names]
    loaded = [repository.load(name, versions[name]) for name in names if name in versions]
    return [models for models in loaded if models]


def _is_same(current: ServedVersion | None, model: LoadedModel) -> bool:
    if current is None or model.engine is None:
        return False
    return (current.model.model_version, current.engine.digest) == (
        model.model_version,
        model.engine.digest,
    )
