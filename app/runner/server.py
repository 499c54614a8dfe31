"""The runner's end of the sockets: frames in, queued requests, frames out."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
from typing_extensions import override

from app.errors import (
    EngineError,
    GatecastError,
    InvalidInputError,
    OverloadedError,
    RetryableError,
)
from app.interface import Extent, Interface
from app.model_config import LabelChange
from app.runner.batcher import DynamicBatcher
from app.runner.checks import check_inputs, check_outputs
from app.runner.engine import OrtEngine
from app.runner.histories import Histories
from app.runner.ledger import Ledger
from app.runner.queue import PendingRequest, Terms
from app.runner.repository import LoadedModel
from app.runner.sequences import Sequences, Turn
from app.runner.shelf import ListedModel, ModelShelf, ServedVersion
from app.runner.state_cache import Version
from app.statistics import VersionStatistics, failure_reason
from app.tensors import Tensors
from app.wire import (
    BACKGROUND_PRIORITY,
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
    ToRunner,
    encode,
    pack_tensors,
    unpack_tensors,
)

logger = logging.getLogger(__name__)

_decoder = msgspec.msgpack.Decoder(ToRunner)


class RunnerServer:
    """Serves the models of a shelf to every gateway that connects.

    Args:
        shelf: The models.
        device: Where they run.
        sequences: States that are carried from request to request.
        ledger: What was done.
        histories: States that are kept of what was run; None keeps none.
    """

    def __init__(
        self,
        shelf: ModelShelf,
        device: str,
        sequences: Sequences,
        ledger: Ledger,
        histories: Histories | None = None,
    ) -> None:
        self.num_runners = 0
        """Runners that serve; 0 stands for all that a gateway knows of."""
        self._shelf = shelf
        self._device = device
        self._sequences = sequences
        self._ledger = ledger
        self._histories = histories
        self._connections: set[GatewayConnection] = set()
        self._changes: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        shelf.changed = self._tell_status

    async def listen(self, path: Path) -> None:
        """Accept gateways on a Unix socket at ``path``."""
        path.unlink(missing_ok=True)  # noqa: ASYNC240 - once, before anything is served
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(partial(GatewayConnection, self), path)

    async def close(self) -> None:
        """Answer what is queued, then close every connection."""
        if self._server is not None:
            self._server.close()
        await self._shelf.drain()
        for connection in list(self._connections):
            connection.close()

    def beat(self) -> None:
        """Tell every gateway that this runner still turns."""
        self._sequences.expire()
        self._ledger.read(self._shelf.batchers())
        frame = encode(Heartbeat([_batch_size_of(batcher) for batcher in self._shelf.batchers()]))
        for connection in self._connections:
            connection.send(frame)

    def is_stuck(self, longest_run_s: float) -> bool:
        """Whether a model run takes longer than it may."""
        now = time.monotonic()
        return any(
            batcher.running_since is not None and now - batcher.running_since > longest_run_s
            for batcher in self._shelf.batchers()
        )

    def add(self, connection: "GatewayConnection") -> None:
        """Welcome a gateway."""
        self._connections.add(connection)
        connection.send(encode(self._status()))

    def remove(self, connection: "GatewayConnection") -> None:
        """Forget a gateway that is gone."""
        self._connections.discard(connection)

    def submit(
        self, message: InferRequest, connection: "GatewayConnection"
    ) -> Callable[[], None] | None:
        """Check and queue a request.

        Returns: What to call when its caller has left; None where it is answered already.

        Raises:
            GatecastError: It can not be queued.
        """
        served = self._shelf.find(message.model_name, message.model_version)
        batcher, interface = served.batcher, served.engine.interface
        arrived = time.monotonic()
        try:
            inputs = _unpack(message)
            check_inputs(inputs, interface)
            check_outputs(message.outputs, interface)
            request = PendingRequest(
                inputs,
                message.outputs,
                _extent_of(message, inputs, interface),
                _terms_of(message, arrived),
                answer=partial(connection.answer, message.id),
            )
            if message.sequence is not None:
                turn = Turn(message.sequence, request, batcher, interface)
                self._sequences.submit(turn)
                return partial(self._sequences.abandon, turn)
            return self._submit_rows(request, served, message.owner)
        except GatecastError as error:
            waited = time.monotonic() - arrived
            batcher.statistics.record_failure(waited, failure_reason(error))
            raise

    def _submit_rows(
        self, request: PendingRequest, served: ServedVersion, owner: str | None
    ) -> Callable[[], None] | None:
        histories, version = self._histories, version_of(served.model, served.engine)
        if histories is not None and owner is not None and histories.takes(request, version):
            return histories.submit(request, served.batcher, version, owner)
        served.batcher.submit(request)
        return partial(served.batcher.abandon, request)

    def statistics(self) -> list[VersionStatistics]:
        """Return what every version that is served has done."""
        return self._ledger.read(self._shelf.batchers())

    def change(
        self, message: ChangeRequest | LabelRequest, connection: "GatewayConnection"
    ) -> None:
        """Load, unload or label a model, and answer when that is done."""
        change = asyncio.create_task(self._change(message, connection))
        self._changes.add(change)
        change.add_done_callback(self._changes.discard)

    async def _change(
        self, message: ChangeRequest | LabelRequest, connection: "GatewayConnection"
    ) -> None:
        try:
            await self._act(message)
        except GatecastError as error:
            connection.answer(message.id, error)
        except Exception:
            logger.exception("model %s could not be changed", message.model_name)
            connection.answer(message.id, EngineError("the model could not be changed"))
        else:
            connection.send(encode(ChangeReply(message.id)))

    async def _act(self, message: ChangeRequest | LabelRequest) -> None:
        if isinstance(message, LabelRequest):
            change = LabelChange(message.label, message.version, message.share)
            await self._shelf.label(message.model_name, change)
        elif message.action == "load":
            await self._shelf.load(message.model_name)
        else:
            await self._shelf.unload(message.model_name)

    def _tell_status(self) -> None:
        if self._histories is not None:
            engines = [(model, model.engine) for model in self._shelf.models() if model.engine]
            self._histories.serve((version_of(*one), one[1].interface) for one in engines)
        frame = encode(self._status())
        for connection in self._connections:
            connection.send(frame)

    def _status(self) -> RunnerStatus:
        models = self._shelf.models()
        providers: list[str] = next((m.engine.providers for m in models if m.engine), [])
        served = [one for model in self._shelf.listed() for one in _describe(model)]
        return RunnerStatus(self._device, providers, served, self.num_runners)


class GatewayConnection(FrameProtocol):
    """One gateway, and its requests that are not answered yet."""

    def __init__(self, server: RunnerServer) -> None:
        super().__init__()
        self._server = server
        self._pending: dict[int, Callable[[], None]] = {}

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._server.add(self)

    @override
    def closed(self) -> None:
        self._server.remove(self)
        pending, self._pending = self._pending, {}
        for abandon in pending.values():
            abandon()

    @override
    def frame_received(self, body: bytes) -> None:
        message = _decoder.decode(body)
        if isinstance(message, CancelRequest):
            if abandon := self._pending.pop(message.id, None):
                abandon()
            return
        if isinstance(message, ChangeRequest | LabelRequest):
            self._server.change(message, self)
            return
        if isinstance(message, StatisticsRequest):
            self.send(encode(StatisticsReply(message.id, self._server.statistics())))
            return
        try:
            abandon = self._server.submit(message, self)
        except GatecastError as error:
            self.answer(message.id, error)
        else:
            if abandon is not None:
                self._pending[message.id] = abandon

    def answer(self, request_id: int, answer: Tensors | GatecastError) -> None:
        """Send the answer of a request."""
        self._pending.pop(request_id, None)
        if isinstance(answer, GatecastError):
            retry_after_s = answer.retry_after_s if isinstance(answer, RetryableError) else 0
            name = type(answer).__name__
            pause_s = answer.pause_s if isinstance(answer, OverloadedError) else 0.0
            self.send(encode(InferFailure(request_id, name, str(answer), retry_after_s, pause_s)))
        else:
            self.send(encode(InferResult(request_id, pack_tensors(answer))))


def _batch_size_of(batcher: DynamicBatcher) -> tuple[str, int, int]:
    version = batcher.statistics
    return version.model_name, version.model_version, batcher.max_batch_size


def _extent_of(message: InferRequest, inputs: Tensors, interface: Interface) -> Extent:
    extent = interface.extent_of(inputs)
    return replace(extent, group=None) if message.priority == BACKGROUND_PRIORITY else extent


def _terms_of(message: InferRequest, arrived: float) -> Terms:
    return Terms(arrived, message.deadline, message.priority, message.flow, message.is_begun)


def _unpack(message: InferRequest) -> Tensors:
    try:
        return unpack_tensors(message.inputs)
    except (KeyError, ValueError) as error:
        raise InvalidInputError("a tensor's bytes do not fit its type and shape") from error


def version_of(model: LoadedModel, engine: OrtEngine) -> Version:
    """Return what tells the states of one model file from those of another."""
    return model.model_name, model.model_version, engine.file_digest


def _describe(model: ListedModel) -> Iterator[ServedModel]:
    config = model.config.model_dump_json(exclude_unset=True)
    for version in model.versions:
        engine = version.engine
        yield ServedModel(
            version.model_name,
            version.model_version,
            reason=version.reason,
            interface=engine.interface.to_json() if engine is not None else "",
            card=_card_of(engine),
            digest=engine.file_digest if engine is not None else "",
            config=config,
            config_refusal=model.config_refusal,
        )


def _card_of(engine: OrtEngine | None) -> str:
    card = engine.any_card if engine is not None else None
    return card.model_dump_json() if card is not None else ""
