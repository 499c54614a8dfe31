"""The runners behind a gateway: each request goes to one of them."""

import asyncio
import contextlib
import itertools
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Self

from app.errors import (
    DeadlineExceededError,
    ModelNotReadyError,
    OverloadedError,
)
from app.gateway.affinity import choose_keeper, history_key
from app.gateway.backlog import Backlog
from app.gateway.pauses import Flow, Pauses
from app.gateway.runner_connection import RunnerConnection
from app.gateway.runners import CALLER, ChangeAction, Inference, ModelVersion
from app.model_config import LabelChange
from app.statistics import VersionStatistics, load_statistics, statistics_file
from app.tensors import Tensors
from app.wire import (
    BACKGROUND_PRIORITY,
    ChangeRequest,
    LabelRequest,
    SequencePart,
)

_RECONNECT_DELAY_S = 0.05
_MOST_AHEAD = 16
"""Requests of the same size that a runner may be ahead of another: about one run takes them in."""


class RunnerPool:
    """The real Runners: one connection to each runner's socket, made again whenever it breaks.

    Args:
        sockets: One path for each runner.
        silence_s: A runner that was not heard of for so long is not ready.
        max_queue_steps: Most time steps that may wait for one runner.
        change_timeout_s: Longest that loading a model may take.
    """

    def __init__(
        self,
        sockets: Sequence[Path],
        *,
        silence_s: float,
        max_queue_steps: int,
        change_timeout_s: float = 120.0,
    ) -> None:
        self._sockets = sockets
        self._change_timeout_s = change_timeout_s
        self.connected = asyncio.Event()
        """Set once the first runner has said what it serves."""
        self._silence_s = silence_s
        self._max_queue_steps = max_queue_steps
        self._connections: dict[Path, RunnerConnection] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._absent: dict[Path, tuple[ModelVersion, ...]] = {}
        self._heard_of: set[Path] = set()
        self._listed: list[tuple[ModelVersion, ...]] = []
        self._models: list[ModelVersion] = []
        self._backlogs = defaultdict[str, Backlog](Backlog)
        self.pauses = Pauses()
        """The flows that are refused now."""

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._keep(path)) for path in self._sockets]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in list(self._connections.values()):
            connection.close()

    @property
    def is_ready(self) -> bool:
        """Whether a runner is connected, has loaded a model and was heard of lately."""
        return any(model.is_ready for connection in self._live() for model in connection.models)

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda``; empty while no runner is connected."""
        return next((c.device for c in self._connections.values()), "")

    @property
    def num_runners(self) -> int:
        """How many runners serve, be they up or not: the first ones of all places."""
        told = max((c.num_runners for c in self._connections.values()), default=0)
        return told or len(self._sockets)

    @property
    def is_complete(self) -> bool:
        """Whether every runner that may serve models of its own was heard of since the start."""
        if self.device != "cuda":
            return True
        up = {path for path, connection in self._connections.items() if connection.device}
        return self._heard_of.union(up).issuperset(self._sockets[: self.num_runners])

    def models(self) -> Sequence[ModelVersion]:
        """List every version that a runner has looked at; while they change, runners may differ."""
        listed = [connection.models for connection in self._connections.values()]
        if listed and self._absent:
            listed += self._away()
        if listed != self._listed:  # compares by identity first: nothing is looked into
            self._listed = listed
            found: dict[tuple[str, int], ModelVersion] = {}
            for model in itertools.chain.from_iterable(listed):
                key = (model.model_name, model.model_version)
                if key not in found or model.is_ready:
                    found[key] = model
            self._models = list(found.values())
        return self._models

    async def infer(self, inference: Inference) -> Tensors:
        """Run rows on the least loaded runner, as ``Runners.infer``."""
        live = self._live()
        if not live or (self._absent and self._is_away(inference, live)):
            raise _no_runner()
        if inference.sequence is None:
            connection = _choose(inference, live)
        else:
            connection = self._find_keeper(inference.sequence, live)
        if connection.outstanding_steps + inference.steps > self._max_queue_steps:
            raise OverloadedError("too much work waits for the runner")
        if inference.priority == BACKGROUND_PRIORITY:
            return await connection.infer(inference)
        flow = Flow(inference.model_name, inference.flow, inference.priority)
        backlog = self._backlogs[inference.model_name]
        try:
            if not inference.part:
                self.pauses.check(flow)
                backlog.check(flow.flow, inference.steps, inference.max_wait_s)
            return await backlog.follow(connection.infer(inference), flow.flow, inference.steps)
        except OverloadedError as error:
            self.pauses.begin(flow, error)
            raise

    def batch_size_cap(self, model_name: str, model_version: int) -> int | None:
        """Return the most rows of the next run of a version, as ``Runners.batch_size_cap``."""
        key = (model_name, model_version)
        sizes = (c.batch_sizes[key] for c in self._connections.values() if key in c.batch_sizes)
        return max(sizes, default=None)

    def check_room(self, model_name: str) -> None:
        """Refuse early what a runner would refuse, as ``Runners.check_room``."""
        self.pauses.check(Flow(model_name, CALLER.get()))

    async def statistics(self, timeout_s: float) -> Sequence[VersionStatistics]:
        """Sum what all runners have done, as ``Runners.statistics``."""
        deadline = time.monotonic() + timeout_s
        totals: dict[tuple[str, int], VersionStatistics] = {}
        every = (self._statistics_of(path, deadline) for path in self._sockets)
        for models in await asyncio.gather(*every):
            for one in models:
                key = (one.model_name, one.model_version)
                totals.setdefault(key, VersionStatistics(*key)).add(one)
        return list(totals.values())

    async def _statistics_of(self, path: Path, deadline: float) -> list[VersionStatistics]:
        connection = self._connections.get(path)
        if connection is not None:
            try:
                return await connection.statistics(deadline)
            except (ModelNotReadyError, DeadlineExceededError):
                pass  # it was lost, or hangs
        return load_statistics(statistics_file(path)).served

    async def change(self, action: ChangeAction, model_name: str) -> None:
        """Load or unload a model on all runners, as ``Runners.change``."""
        await self._change_all(lambda id_: ChangeRequest(id_, action, model_name))

    async def label(self, model_name: str, change: LabelChange) -> None:
        """Change a label of a model on all runners, as ``Runners.label``."""
        await self._change_all(
            lambda id_: LabelRequest(id_, model_name, change.label, change.version, change.share)
        )

    async def _change_all(self, to_message: Callable[[int], ChangeRequest | LabelRequest]) -> None:
        live = self._live()
        if not live:
            raise _no_runner()
        deadline = time.monotonic() + self._change_timeout_s
        changes = (c.change(to_message, deadline) for c in live)
        for outcome in await asyncio.gather(*changes, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    def _find_keeper(
        self, part: SequencePart, live: Sequence["RunnerConnection"]
    ) -> "RunnerConnection":
        """Return the runner that keeps a sequence: every gateway finds the same one."""
        sockets = self._places_of(part.model_name)
        name = f"{part.owner}\n{part.model_name}\n{part.id!r}"
        keeper = self._connections.get(sockets[zlib.crc32(name.encode()) % len(sockets)])
        if keeper is None or keeper not in live:
            raise ModelNotReadyError("the runner that keeps this sequence is not up")
        return keeper

    def _places_of(self, model_name: str) -> Sequence[Path]:
        """Return the sockets of the runners that hold a model, be they up or not."""
        sockets = self._sockets[: self.num_runners]
        if self.device == "cuda":
            config = next((m.config for m in self.models() if m.model_name == model_name), None)
            if config is not None and config.devices is not None:
                return [sockets[n] for n in sorted(config.devices) if n < len(sockets)] or sockets
        return sockets

    def _away(self) -> list[tuple[ModelVersion, ...]]:
        """Return what runners hold, perhaps they alone, that are on their way back."""
        found = ((models, self._connections.get(path)) for path, models in self._absent.items())
        return [models for models, back in found if back is None or not back.device]

    def _is_away(self, inference: Inference, live: Sequence[RunnerConnection]) -> bool:
        version = (inference.model_name, inference.model_version)
        return not any(version in c.ready_versions for c in live) and any(
            (model.model_name, model.model_version) == version
            for models in self._away()
            for model in models
        )

    def _live(self) -> list["RunnerConnection"]:
        oldest = time.monotonic() - self._silence_s
        return [c for c in self._connections.values() if c.device and c.last_heard_at > oldest]

    async def _keep(self, path: Path) -> None:
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(OSError):
                _, connection = await loop.create_unix_connection(
                    partial(RunnerConnection, self.connected, path.name), str(path)
                )
                self._connections[path] = connection
                await connection.lost.wait()
                del self._connections[path]
                if connection.device:
                    self._heard_of.add(path)
                self._absent.pop(path, None)
                placed = tuple(m for m in connection.models if m.config.devices is not None)
                if placed:
                    self._absent[path] = placed
            await asyncio.sleep(_RECONNECT_DELAY_S)


def _choose(inference: Inference, live: Sequence[RunnerConnection]) -> RunnerConnection:
    """Return the runner that keeps the states of the first history, else the least loaded one."""
    if len(live) == 1:
        return live[0]
    version = (inference.model_name, inference.model_version)
    # A version that no runner lists any more was replaced a moment ago: those of its model have it.
    holders = [c for c in live if version in c.ready_versions] or _holders(version[0], live)
    least = min(holders, key=lambda c: c.outstanding_steps)
    if inference.owner is None or len(holders) == 1:
        return least
    key = history_key(inference.owner, inference.model_name, inference.inputs)
    keeper = holders[choose_keeper(key, [c.name for c in holders])]
    limit = least.outstanding_steps + _MOST_AHEAD * inference.steps
    return keeper if keeper.outstanding_steps <= limit else least


def _holders(model_name: str, live: Sequence[RunnerConnection]) -> Sequence[RunnerConnection]:
    return [c for c in live if any(m.model_name == model_name for m in c.models)] or live


def _no_runner() -> ModelNotReadyError:
    return ModelNotReadyError("the runner is not up; it is being started again")
