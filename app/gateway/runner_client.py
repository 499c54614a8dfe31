"""The gateway's end of the sockets to the runners."""

import asyncio
import contextlib
import itertools
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import msgspec
from typing_extensions import override

from app import errors
from app.artifact import Card
from app.errors import (
    DeadlineExceededError,
    EngineError,
    GatecastError,
    ModelNotReadyError,
    OverloadedError,
    RetryableError,
)
from app.gateway.affinity import choose_keeper, history_key
from app.gateway.time_limits import Alarm
from app.interface import Interface
from app.model_config import LabelChange, ModelConfig
from app.statistics import VersionStatistics, load_statistics, statistics_file
from app.tensors import Tensors
from app.wire import (
    CancelRequest,
    ChangeReply,
    ChangeRequest,
    FrameProtocol,
    InferFailure,
    InferRequest,
    InferResult,
    LabelRequest,
    RunnerStatus,
    SequencePart,
    ServedModel,
    StatisticsReply,
    StatisticsRequest,
    ToGateway,
    encode,
    pack_tensors,
    unpack_tensors,
)

_RECONNECT_DELAY_S = 0.05
_MOST_AHEAD = 16
"""Requests of the same size that a runner may be ahead of another: about one run takes them in."""

_decoder = msgspec.msgpack.Decoder(ToGateway)


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of one model.

    Attributes:
        interface: None where it did not load.
        reason: Why it did not load; empty where it did.
        card: None where it did not load, and where it is served as tensors alone.
        digest: SHA-256 of its file, empty where it did not load.
        config: How the model is served, all its versions alike.
        config_refusal: Why the config that lies beside it now does not count.
    """

    model_name: str
    model_version: int
    interface: Interface | None
    reason: str = ""
    card: Card | None = None
    digest: str = ""
    config: ModelConfig = field(default_factory=ModelConfig)
    config_refusal: str = ""

    @property
    def is_ready(self) -> bool:
        """Whether it can be run."""
        return self.interface is not None


@dataclass(frozen=True, slots=True)
class Inference:
    """Rows to run; states may be left out.

    Attributes:
        deadline: Time of ``time.monotonic()``.
        steps: Padded steps of all rows.
        priority: 1 is the highest, 0 leaves it to the service; see also ``BACKGROUND_PRIORITY``.
        sequence: Where the request stands in a sequence, whose states the runner puts in.
        owner: Id of the caller's key, where states may be kept for it; None where not.
    """

    model_name: str
    model_version: int
    inputs: Tensors
    outputs: tuple[str, ...]
    deadline: float
    steps: int
    priority: int = 0
    sequence: SequencePart | None = None
    owner: str | None = None


ChangeAction = Literal["load", "unload"]


class Runners(Protocol):
    """All runners, as the rest of the gateway sees them."""

    @property
    def is_ready(self) -> bool:
        """Whether a runner is connected, has loaded its models and was heard of lately."""
        ...

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda``; empty while no runner is connected."""
        ...

    def models(self) -> Sequence[ModelVersion]:
        """List every version, ready or not; empty while no runner is connected."""
        ...

    async def statistics(self, timeout_s: float) -> Sequence[VersionStatistics]:
        """Sum what all runners have done since the service started, by model and version.

        A runner that is not up, or does not answer in ``timeout_s``, counts with what it has on
        file, which is all that it ever told.
        """
        ...

    async def change(self, action: ChangeAction, model_name: str) -> None:
        """Load what is new of a model on all runners, or unload it.

        Raises:
            ModelNotFoundError: There is no such model.
            ModelRefusedError: A version or its config is not sound; what was served still is.
            ModelNotReadyError: No runner is up, or one was lost.
            DeadlineExceededError: A runner did not answer in time.
        """
        ...

    async def label(self, model_name: str, change: LabelChange) -> None:
        """Change a label of a model on all runners.

        Raises:
            GatecastError: As ``change``.
            InvalidInputError: The version is not served, and no share of it was named.
        """
        ...

    async def infer(self, inference: Inference) -> Tensors:
        """Run rows on the least loaded runner; cancelling the call cancels the request.

        Where states may be kept, a history goes to the same runner as long as that one is not much
        busier than the others. A part of a sequence goes to the runner that keeps it.

        Raises:
            InvalidInputError: The tensors do not fit the model.
            ModelNotFoundError: No such model.
            ModelNotReadyError: No runner is up, or the runner was lost.
            OverloadedError: The queue is full.
            DeadlineExceededError: The deadline passed first.
            ShuttingDownError: The runner is draining.
            EngineError: The run failed.
            UnknownSequenceError: There is no such sequence.
            SequenceConflictError: The sequence can not go on.
        """
        ...


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
        self._listed: list[tuple[ModelVersion, ...]] = []
        self._models: list[ModelVersion] = []

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

    def models(self) -> Sequence[ModelVersion]:
        """List every version that a runner has looked at; while they change, runners may differ."""
        listed = [connection.models for connection in self._connections.values()]
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
        if not live:
            raise _no_runner()
        if inference.sequence is None:
            key = (inference.model_name, inference.model_version)
            # A version that no runner lists any more was replaced a moment ago: all still have it.
            holders = [c for c in live if key in c.ready_versions] or live
            connection = _choose(inference, holders)
        else:
            connection = self._find_keeper(inference.sequence, live)
        if connection.outstanding_steps + inference.steps > self._max_queue_steps:
            raise OverloadedError("too much work waits for the runner")
        return await connection.infer(inference)

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
        sockets = self._sockets[:1] if self.device == "cuda" else self._sockets
        name = f"{part.owner}\n{part.model_name}\n{part.id!r}"
        keeper = self._connections.get(sockets[zlib.crc32(name.encode()) % len(sockets)])
        if keeper is None or keeper not in live:
            raise ModelNotReadyError("the runner that keeps this sequence is not up")
        return keeper

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
            await asyncio.sleep(_RECONNECT_DELAY_S)


class RunnerConnection(FrameProtocol):
    """One runner, and the calls that wait for its answers.

    Args:
        described: Set when the runner has said what it serves.
        name: The same in all gateways, and after a restart of the runner.
    """

    def __init__(self, described: asyncio.Event, name: str) -> None:
        super().__init__()
        self.name = name
        self._described = described
        self.device = ""
        self.models: tuple[ModelVersion, ...] = ()
        self.ready_versions: frozenset[tuple[str, int]] = frozenset()
        self.last_heard_at = time.monotonic()
        self.outstanding_steps = 0
        self.lost = asyncio.Event()
        self._ids = itertools.count(1)
        self._calls: dict[int, asyncio.Future[Any]] = {}

    async def infer(self, inference: Inference) -> Tensors:
        """Send rows and wait for theirs; every way out of here forgets the call."""
        request_id = next(self._ids)
        frame = encode(_to_request(request_id, inference))
        self.outstanding_steps += inference.steps
        try:
            outputs: Tensors = await self._ask(request_id, frame, inference.deadline)
            return outputs
        finally:
            self.outstanding_steps -= inference.steps
            if self._calls.pop(request_id, None) is not None:
                self.send(encode(CancelRequest(request_id)))

    async def statistics(self, deadline: float) -> list[VersionStatistics]:
        """Ask what the runner's models have done."""
        request_id = next(self._ids)
        frame = encode(StatisticsRequest(request_id))
        try:
            models: list[VersionStatistics] = await self._ask(request_id, frame, deadline)
            return models
        finally:
            self._calls.pop(request_id, None)

    async def change(
        self, to_message: Callable[[int], ChangeRequest | LabelRequest], deadline: float
    ) -> None:
        """Have the runner do what the message with the given id says."""
        request_id = next(self._ids)
        try:
            await self._ask(request_id, encode(to_message(request_id)), deadline)
        finally:
            self._calls.pop(request_id, None)

    async def _ask(self, request_id: int, frame: bytearray, deadline: float) -> Any:
        call = self._calls[request_id] = asyncio.get_running_loop().create_future()
        self.send(frame)
        alarm = Alarm(deadline, partial(_expire, call))
        try:
            return await call
        finally:
            alarm.cancel()

    @override
    def frame_received(self, body: bytes) -> None:
        self.last_heard_at = time.monotonic()
        match _decoder.decode(body):
            case InferResult() as result:
                self._settle(result.id, unpack_tensors(result.outputs))
            case InferFailure() as failure:
                if call := self._take(failure.id):
                    call.set_exception(_to_error(failure))
            case StatisticsReply() as reply:
                self._settle(reply.id, reply.models)
            case ChangeReply() as reply:
                self._settle(reply.id, None)
            case RunnerStatus() as status:
                self._describe(status)
            case _:
                pass

    def _settle(self, request_id: int, result: object) -> None:
        if call := self._take(request_id):
            call.set_result(result)

    @override
    def closed(self) -> None:
        calls, self._calls = self._calls, {}
        for call in calls.values():
            if not call.done():
                call.set_exception(ModelNotReadyError("the runner was lost; it is being replaced"))
        self.lost.set()

    def _describe(self, status: RunnerStatus) -> None:
        self.device = status.device
        self.models = tuple(_to_model_version(model) for model in status.models)
        self.ready_versions = frozenset(
            (model.model_name, model.model_version) for model in self.models if model.is_ready
        )
        self._described.set()

    def _take(self, request_id: int) -> asyncio.Future[Any] | None:
        call = self._calls.pop(request_id, None)
        return None if call is None or call.done() else call


def _choose(inference: Inference, holders: Sequence[RunnerConnection]) -> RunnerConnection:
    """Return the runner that keeps the states of the first history, else the least loaded one."""
    least = min(holders, key=lambda c: c.outstanding_steps)
    if inference.owner is None or len(holders) == 1:
        return least
    key = history_key(inference.owner, inference.model_name, inference.inputs)
    keeper = holders[choose_keeper(key, [c.name for c in holders])]
    limit = least.outstanding_steps + _MOST_AHEAD * inference.steps
    return keeper if keeper.outstanding_steps <= limit else least


def _expire(call: asyncio.Future[Any]) -> None:
    if not call.done():
        call.set_exception(DeadlineExceededError("the deadline passed before the answer"))


def _no_runner() -> ModelNotReadyError:
    return ModelNotReadyError("the runner is not up; it is being started again")


def _to_request(request_id: int, inference: Inference) -> InferRequest:
    return InferRequest(
        id=request_id,
        model_name=inference.model_name,
        model_version=inference.model_version,
        deadline=inference.deadline,
        inputs=pack_tensors(inference.inputs),
        outputs=list(inference.outputs),
        priority=inference.priority,
        sequence=inference.sequence,
        owner=inference.owner,
    )


def _to_model_version(model: ServedModel) -> ModelVersion:
    return ModelVersion(
        model.model_name,
        model.model_version,
        interface=Interface.from_json(model.interface) if model.interface else None,
        reason=model.reason,
        card=Card.model_validate_json(model.card) if model.card else None,
        digest=model.digest,
        config=ModelConfig.model_validate_json(model.config),
        config_refusal=model.config_refusal,
    )


def _to_error(failure: InferFailure) -> GatecastError:
    kind = getattr(errors, failure.error, EngineError)
    if issubclass(kind, RetryableError):
        return kind(failure.message, failure.retry_after_s)
    return kind(failure.message)
