"""An open loop: requests leave when they are due, whatever became of those before them.

Every request is accounted for once: answered with a status, or lost. Its latency counts from the
time at which it was due, so that a sender that lags hides nothing.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import numpy as np
from typing_extensions import override

from benchmarks.serving.load import Request

LOST = 0
"""Status of a request whose connection ended before its answer."""

_END_OF_HEAD = b"\r\n\r\n"
_PATIENCE_S = 40.0


@dataclass(slots=True)
class Outcome:
    """What became of one request; times are seconds, ``due_s`` since the load began.

    ``latency_s`` counts from when it was due, ``lag_s`` of it is the sender's own.
    """

    request: Request
    due_s: float
    lag_s: float = 0.0
    latency_s: float = 0.0
    status: int = LOST
    has_retry_after: bool = False
    head: bytes = b""
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of load: ``rate`` requests a second on average, at random times."""

    rate: float
    seconds: float


@dataclass
class OpenLoop:
    """One stream of requests to one server, which are sent in turn.

    Attributes:
        port: Of the server.
        requests: What is sent, one after the other, again and again.
        phases: How much of it, and when.
        seed: Of the times.
    """

    port: int
    requests: Sequence[Request]
    phases: Sequence[Phase]
    seed: int = 0
    outcomes: list[Outcome] = field(default_factory=list)
    _idle: list["_Connection"] = field(default_factory=list)
    _waiting: set[asyncio.Future[None]] = field(default_factory=set)

    async def run(self) -> list[Outcome]:
        """Send everything and wait for every answer; return all outcomes in the order of sending.

        Raises:
            TimeoutError: Requests stayed without an answer.
        """
        started = time.perf_counter()
        for number, due_s in enumerate(self._times()):
            delay_s = started + due_s - time.perf_counter()
            if delay_s > 0:
                await asyncio.sleep(delay_s)
            request = self.requests[number % len(self.requests)]
            outcome = Outcome(request, due_s, lag_s=-delay_s if delay_s < 0 else 0.0)
            self.outcomes.append(outcome)
            self._send(outcome, started + due_s)
            if not number % 16:
                await asyncio.sleep(0)  # answers are read also while the sender lags
        async with asyncio.timeout(_PATIENCE_S):
            while self._waiting:
                await asyncio.wait(self._waiting)
        for connection in self._idle:
            connection.close()
        return self.outcomes

    def _times(self) -> list[float]:
        random = np.random.default_rng(self.seed)
        times: list[float] = []
        begins = 0.0
        for phase in self.phases:
            count = round(phase.rate * phase.seconds)
            times += np.sort(begins + random.uniform(0, phase.seconds, count)).tolist()
            begins += phase.seconds
        return times

    def _send(self, outcome: Outcome, due: float) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._waiting.add(done)
        done.add_done_callback(self._waiting.discard)
        finish = partial(self._finish, outcome, due, done)
        if self._idle:
            self._idle.pop().send(outcome, finish)
        else:
            done.add_done_callback(partial(_keep, loop.create_task(self._open(outcome, finish))))

    async def _open(self, outcome: Outcome, finish: Callable[["_Connection | None"], None]) -> None:
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                _Connection, "127.0.0.1", self.port
            )
        except OSError:
            finish(None)
        else:
            connection.send(outcome, finish)

    def _finish(
        self,
        outcome: Outcome,
        due: float,
        done: asyncio.Future[None],
        connection: "_Connection | None",
    ) -> None:
        outcome.latency_s = time.perf_counter() - due
        if connection is not None:
            self._idle.append(connection)
        done.set_result(None)


def _keep(_task: asyncio.Task[None], _done: asyncio.Future[None]) -> None:
    """Hold a task until its request is done: the loop itself holds it only weakly."""


class _Connection(asyncio.Protocol):
    """One keep-alive connection, with one request at a time."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None
        self._outcome: Outcome | None = None
        self._finish: Callable[[_Connection | None], None] | None = None

    def send(self, outcome: Outcome, finish: Callable[["_Connection | None"], None]) -> None:
        self._outcome, self._finish = outcome, finish
        if self._transport is None:
            self._end(None)
        else:
            self._transport.write(outcome.request.content)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._end(None)

    @override
    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(_END_OF_HEAD)
        fields = bytes(head).lower()
        if not found or self._outcome is None:
            return
        length = int(fields.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        outcome = self._outcome
        outcome.status = int(head[9:12])
        outcome.has_retry_after = b"\r\nretry-after: " in fields
        outcome.head, outcome.body = bytes(head), bytes(body[:length])
        self._received.clear()
        self._end(self)

    def _end(self, connection: "_Connection | None") -> None:
        finish, self._finish, self._outcome = self._finish, None, None
        if finish is not None:
            finish(connection)
