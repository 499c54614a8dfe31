"""One socket to a runner, and the calls that wait for its answers."""

import asyncio
import itertools
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from typing_extensions import override

from app import errors
from app.artifact.metadata import read_card
from app.errors import (
    DeadlineExceededError,
    EngineError,
    GatecastError,
    ModelNotReadyError,
    OverloadedError,
    RetryableError,
)
from app.gateway.runners import Inference, ModelVersion
from app.gateway.time_limits import Alarm
from app.interface import Interface
from app.model_config import ModelConfig
from app.statistics import VersionStatistics
from app.tensors import Tensors
from app.wire import (
    CancelRequest,
    ChangeReply,
    ChangeRequest,
    FrameProtocol,
    Heartbeat,
    InferFailure,
    InferRequest,
    InferResult,
    LabelRequest,
    RunnerStatus,
    ServedModel,
    StatisticsReply,
    StatisticsRequest,
    ToGateway,
    encode,
    pack_tensors,
    unpack_tensors,
)

_decoder = msgspec.msgpack.Decoder(ToGateway)


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
        self.num_runners = 0
        self.models: tuple[ModelVersion, ...] = ()
        self.ready_versions: frozenset[tuple[str, int]] = frozenset()
        self.batch_sizes: dict[tuple[str, int], int] = {}
        """Most rows of the next run, by model name and version, as of the last beat."""
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
        if self.lost.is_set():  # and not taken out of the pool yet
            raise _was_lost()
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
            case Heartbeat() as beat:
                self.batch_sizes = {(name, v): rows for name, v, rows in beat.batch_sizes}
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
                call.set_exception(_was_lost())
        self.lost.set()

    def _describe(self, status: RunnerStatus) -> None:
        self.device, self.num_runners = status.device, status.num_runners
        self.models = tuple(_to_model_version(model) for model in status.models)
        self.ready_versions = frozenset(
            (model.model_name, model.model_version) for model in self.models if model.is_ready
        )
        self._described.set()

    def _take(self, request_id: int) -> asyncio.Future[Any] | None:
        call = self._calls.pop(request_id, None)
        return None if call is None or call.done() else call


def _was_lost() -> ModelNotReadyError:
    return ModelNotReadyError("the runner was lost; it is being replaced")


def _expire(call: asyncio.Future[Any]) -> None:
    if not call.done():
        call.set_exception(DeadlineExceededError("the deadline passed before the answer"))


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
        flow=inference.flow,
        is_begun=bool(inference.part),
    )


def _to_model_version(model: ServedModel) -> ModelVersion:
    return ModelVersion(
        model.model_name,
        model.model_version,
        interface=Interface.from_json(model.interface) if model.interface else None,
        reason=model.reason,
        card=read_card(model.card) if model.card else None,
        digest=model.digest,
        config=ModelConfig.model_validate_json(model.config),
        config_refusal=model.config_refusal,
    )


def _to_error(failure: InferFailure) -> GatecastError:
    kind = getattr(errors, failure.error, EngineError)
    if kind is OverloadedError:
        return OverloadedError(failure.message, failure.retry_after_s, pause_s=failure.pause_s)
    if issubclass(kind, RetryableError):
        return kind(failure.message, failure.retry_after_s)
    return kind(failure.message)
