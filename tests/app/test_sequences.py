"""Sequences on a real LSTM, against the equations in NumPy."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import REGISTRY

from app.errors import (
    DeadlineExceededError,
    EngineError,
    GatecastError,
    InvalidInputError,
    OverloadedError,
    SequenceConflictError,
    ShuttingDownError,
    UnknownSequenceError,
)
from app.runner.batcher import DynamicBatcher
from app.runner.engine import OrtEngine
from app.runner.queue import BatchLimits, PendingRequest, Terms
from app.runner.sequences import Sequences, Turn
from app.runner.trial import find_interface
from app.tensors import Tensors
from app.wire import SequencePart
from tests.export.recurrent_oracles import run_equations
from tests.fakes import ManualClock
from tests.plain_models import HIDDEN_SIZE, INPUT_SIZE, lstm_model, lstm_weights
from tests.waiting import until

LIMITS = BatchLimits(32, 4096, 0.5, 0.25, 100_000, 0.0)
IDLE_S = 60.0
TOLERANCE = 1e-5
"""Float32 sums of a dozen steps."""

Array = NDArray[np.float32]


class SlowEngine:
    """A real engine whose runs wait for a gate, and fail where an error is set."""

    def __init__(self, engine: OrtEngine) -> None:
        self.interface = engine.interface
        self.gate = threading.Event()
        self.gate.set()
        self.error: EngineError | None = None
        self.rows: list[int] = []
        self._engine = engine

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        self.rows.append(inputs["X"].shape[1])
        assert self.gate.wait(10)
        if self.error is not None:
            raise self.error
        return self._engine.run(inputs, outputs)


def make_engine(seed: int = 0) -> SlowEngine:
    engine = OrtEngine.from_bytes(lstm_model(seed=seed), "cpu")
    engine.interface = find_interface(engine)
    return SlowEngine(engine)


@dataclass
class Call:
    """A request of a sequence that was sent."""

    turn: Turn
    answered: asyncio.Event
    answers: list[Tensors | GatecastError]

    async def result(self) -> Tensors:
        await asyncio.wait_for(self.answered.wait(), 10)
        (answer,) = self.answers
        if isinstance(answer, GatecastError):
            raise answer
        return answer


@dataclass
class Bench:
    """Sequences, a model and a clock; ``send`` sends a request."""

    engine: SlowEngine
    batcher: DynamicBatcher
    clock: ManualClock = field(default_factory=ManualClock)
    max_sequences: int = 1000

    def __post_init__(self) -> None:
        self.sequences = Sequences(
            max_sequences=self.max_sequences, idle_timeout_s=IDLE_S, clock=self.clock
        )

    def send(
        self,
        values: Array,
        sequence_id: int | str = 1,
        flags: str = "",
        owner: str = "",
        inputs: Tensors | None = None,
        deadline: float = 1e9,
    ) -> Call:
        """Send ``(time, batch, input)``; ``flags`` may hold ``start`` and ``end``."""
        answered, answers = asyncio.Event(), list[Tensors | GatecastError]()

        def answer(got: Tensors | GatecastError) -> None:
            answers.append(got)
            answered.set()

        steps, rows, _ = values.shape
        tensors = {"X": values, "sequence_lens": np.full(rows, steps, np.int32)} | (inputs or {})
        extent = self.engine.interface.extent_of(tensors)
        request = PendingRequest(tensors, ["Y_h"], extent, Terms(0.0, deadline), answer=answer)
        part = SequencePart(sequence_id, "start" in flags, "end" in flags, owner, "plain")
        call = Call(Turn(part, request, self.batcher, self.engine.interface), answered, answers)
        self.sequences.submit(call.turn)
        return call

    async def ask(self, values: Array, *options: object) -> Array:
        return (await self.send(values, *options).result())["Y_h"]  # type: ignore[arg-type]


@asynccontextmanager
async def bench(
    engine: SlowEngine | None = None, max_sequences: int = 1000
) -> AsyncIterator[Bench]:
    engine = engine or make_engine()
    with ThreadPoolExecutor(1) as executor:
        batcher = DynamicBatcher(engine, LIMITS, model_name="plain", executor=executor)
        async with batcher:
            try:
                yield Bench(engine, batcher, max_sequences=max_sequences)
            finally:
                engine.gate.set()


def series(seed: int, steps: int = 3, rows: int = 1) -> Array:
    values = np.random.default_rng(seed).standard_normal((steps, rows, INPUT_SIZE))
    return values.astype(np.float32)


def oracle(*parts: Array) -> Array:
    """Return ``Y_h`` after all parts of one sequence."""
    whole = np.concatenate(parts)
    steps, rows, _ = whole.shape
    states = [np.zeros((rows, HIDDEN_SIZE), np.float32)] * 2
    _, hidden, _ = run_equations(lstm_weights(), whole, np.full(rows, steps, np.int32), states)
    return hidden[None]


def check(got: Array, *parts: Array) -> None:
    np.testing.assert_allclose(got, oracle(*parts), atol=TOLERANCE)


async def test_state_is_carried_from_start_to_end() -> None:
    parts = [series(n, steps=n + 1, rows=2) for n in range(4)]
    async with bench() as one:
        check(await one.ask(parts[0], 1, "start"), parts[0])
        check(await one.ask(parts[1], 1), *parts[:2])
        check(await one.ask(parts[2], 1), *parts[:3])
        check(await one.ask(parts[3], 1, "end"), *parts)
        assert len(one.sequences) == 0
        with pytest.raises(UnknownSequenceError, match="begin it with sequence_start"):
            one.send(parts[0])


async def test_sequence_that_starts_and_ends_at_once_keeps_nothing() -> None:
    async with bench() as one:
        check(await one.ask(series(0), 1, "start end"), series(0))
        assert len(one.sequences) == 0


async def test_first_request_must_start() -> None:
    async with bench() as one:
        with pytest.raises(UnknownSequenceError):
            one.send(series(0))


async def test_second_start_begins_anew() -> None:
    async with bench() as one:
        await one.ask(series(0), 1, "start")
        check(await one.ask(series(1), 1, "start"), series(1))
        check(await one.ask(series(2)), series(1), series(2))


async def test_requests_sent_at_once_run_in_their_order() -> None:
    parts = [series(n) for n in range(6)]
    async with bench() as one:
        calls = [one.send(part, 1, "" if n else "start") for n, part in enumerate(parts)]
        for n, call in enumerate(calls):
            check((await call.result())["Y_h"], *parts[: n + 1])


async def test_different_sequences_share_runs() -> None:
    async with bench() as one:
        one.engine.gate.clear()
        first = one.send(series(0), 0, "start")
        await until(lambda: bool(one.engine.rows))
        calls = [one.send(series(n), n, "start") for n in range(1, 9)]
        one.engine.gate.set()
        for n, call in enumerate([first, *calls]):
            check((await call.result())["Y_h"], series(n))
    assert one.engine.rows == [1, 8]


async def test_number_and_text_name_two_sequences_and_so_do_two_keys() -> None:
    async with bench() as one:
        for n, (name, owner) in enumerate([(5, "a"), ("5", "a"), (5, "b")]):
            await one.ask(series(n), name, "start", owner)
        for n, (name, owner) in enumerate([(5, "a"), ("5", "a"), (5, "b")]):
            check(await one.ask(series(9), name, "", owner), series(n), series(9))
        with pytest.raises(UnknownSequenceError):
            one.send(series(0), 5, "", "c")


async def test_start_may_bring_a_state_but_no_other_request() -> None:
    states = {
        name: np.zeros((1, 1, HIDDEN_SIZE), np.float32) for name in ("initial_h", "initial_c")
    }
    async with bench() as one:
        check((await one.send(series(0), 1, "start", inputs=states).result())["Y_h"], series(0))
        with pytest.raises(InvalidInputError, match="first request"):
            one.send(series(1), inputs=states)
        check(await one.ask(series(2)), series(0), series(2))


async def test_number_of_rows_must_stay() -> None:
    async with bench() as one:
        await one.ask(series(0, rows=2), 1, "start")
        with pytest.raises(InvalidInputError, match="same number of rows"):
            one.send(series(1, rows=3))
        check(await one.ask(series(2, rows=2)), series(0, rows=2), series(2, rows=2))


async def test_idle_sequence_expires_and_says_so() -> None:
    name = "gatecast_sequences_expired_total"
    before = REGISTRY.get_sample_value(name, {"model_name": "plain"}) or 0.0
    async with bench() as one:
        await one.ask(series(0), 1, "start")
        await one.ask(series(1), 2, "start")
        one.clock.now = IDLE_S - 1
        await one.ask(series(1), 2)
        one.clock.now = IDLE_S + 1
        one.sequences.expire()
        assert len(one.sequences) == 1
        with pytest.raises(UnknownSequenceError, match="not used for 60 s"):
            one.send(series(1), 1)
        check(await one.ask(series(1), 2), series(1), series(1), series(1))
    assert REGISTRY.get_sample_value(name, {"model_name": "plain"}) == before + 1


async def test_more_sequences_than_slots_are_refused() -> None:
    async with bench(max_sequences=2) as one:
        for n in range(2):
            await one.ask(series(n), n, "start")
        with pytest.raises(OverloadedError, match="all 2 sequences"):
            one.send(series(2), 2, "start")
        await one.ask(series(3), 0, "start")
        await one.ask(series(4), 0, "end")
        await one.ask(series(2), 2, "start")


async def test_cancelled_request_leaves_the_state_and_releases_its_slot_once() -> None:
    async with bench(max_sequences=2) as one:
        await one.ask(series(0), 1, "start")
        one.engine.gate.clear()
        running = one.send(series(1), 1)
        await until(lambda: len(one.engine.rows) == 2)
        behind = one.send(series(2), 1)
        one.sequences.abandon(running.turn)
        one.sequences.abandon(running.turn)
        with pytest.raises(SequenceConflictError, match="gave no answer"):
            await behind.result()
        one.engine.gate.set()
        check(await one.ask(series(3)), series(0), series(3))
        assert running.answers == []
        assert len(one.sequences) == 1
        await one.ask(series(4), 2, "start")
        with pytest.raises(OverloadedError):
            one.send(series(5), 3, "start")


async def test_cancelled_request_that_waits_never_runs() -> None:
    async with bench() as one:
        one.engine.gate.clear()
        first = one.send(series(0), 1, "start")
        waiting, behind = one.send(series(1)), one.send(series(2))
        one.sequences.abandon(waiting.turn)
        with pytest.raises(SequenceConflictError):
            await behind.result()
        one.engine.gate.set()
        check((await first.result())["Y_h"], series(0))
        check(await one.ask(series(3)), series(0), series(3))


async def test_cancelled_start_opens_nothing() -> None:
    async with bench() as one:
        one.engine.gate.clear()
        call = one.send(series(0), 1, "start")
        one.sequences.abandon(call.turn)
        assert len(one.sequences) == 0
        with pytest.raises(UnknownSequenceError):
            one.send(series(1))


async def test_failed_run_leaves_the_state_and_refuses_what_waited() -> None:
    async with bench() as one:
        await one.ask(series(0), 1, "start")
        one.engine.error = EngineError("broken")
        calls = [one.send(series(1)), one.send(series(2))]
        with pytest.raises(EngineError):
            await calls[0].result()
        with pytest.raises(SequenceConflictError):
            await calls[1].result()
        one.engine.error = None
        check(await one.ask(series(3)), series(0), series(3))


async def test_new_start_behind_a_failed_request_runs() -> None:
    async with bench() as one:
        await one.ask(series(0), 1, "start")
        one.engine.gate.clear()
        calls = [one.send(series(n), 1, "start" if n == 3 else "") for n in range(1, 5)]
        one.sequences.abandon(calls[0].turn)
        with pytest.raises(SequenceConflictError):
            await calls[1].result()
        one.engine.gate.set()
        check((await calls[2].result())["Y_h"], series(3))
        check((await calls[3].result())["Y_h"], series(3), series(4))


async def test_replaced_model_never_meets_an_old_state() -> None:
    async with bench() as old, bench(make_engine(seed=1)) as new:
        await old.ask(series(0), 1, "start")
        old_batcher = old.batcher
        old.batcher = new.batcher
        with pytest.raises(SequenceConflictError, match="another version"):
            old.send(series(1))
        old.batcher = old_batcher
        check(await old.ask(series(2)), series(0), series(2))
        old.batcher = new.batcher
        restarted = await old.ask(series(3), 1, "start")
        assert not np.allclose(restarted, oracle(series(3)))


async def test_closing_batcher_answers_what_waits_in_a_sequence() -> None:
    async with bench() as one:
        one.engine.gate.clear()
        calls = [one.send(series(0), 1, "start"), one.send(series(1))]
        one.engine.gate.set()
        await one.batcher.drain()
        check((await calls[0].result())["Y_h"], series(0))
        check((await calls[1].result())["Y_h"], series(0), series(1))


async def test_draining_batcher_takes_no_more_into_a_sequence() -> None:
    async with bench() as one:
        one.engine.gate.clear()
        first = one.send(series(0), 1, "start")
        draining = asyncio.create_task(one.batcher.drain())
        await until(lambda: bool(one.engine.rows))
        with pytest.raises(ShuttingDownError):
            one.send(series(1))
        one.engine.gate.set()
        await draining
        check((await first.result())["Y_h"], series(0))


async def test_batcher_that_ends_refuses_what_waits_in_a_sequence() -> None:
    async with bench() as one:
        one.engine.gate.clear()
        calls = [one.send(series(0), 1, "start"), one.send(series(1)), one.send(series(2))]
        calls.append(one.send(series(3), 1, "start"))
        await until(lambda: bool(one.engine.rows))
        one.engine.gate.set()
        await one.batcher.__aexit__()
        for call in calls:
            with pytest.raises(GatecastError):
                await call.result()


async def test_many_requests_that_expired_behind_another_are_all_refused() -> None:
    async with bench() as one:
        one.engine.gate.clear()
        first = one.send(series(0), 1, "start")
        late = [one.send(series(1), 1, "start", deadline=1.0) for _ in range(900)]
        one.engine.gate.set()
        check((await first.result())["Y_h"], series(0))
        for call in late:
            with pytest.raises(DeadlineExceededError):
                await call.result()
        check(await one.ask(series(2), 1, "start"), series(2))


async def test_requests_that_wait_in_one_sequence_are_bounded() -> None:
    async with bench() as one:
        one.engine.gate.clear()
        calls = [one.send(series(0), 1, "start end") for _ in range(1000)]
        with pytest.raises(OverloadedError, match="1000 requests of this sequence"):
            one.send(series(0), 1, "start")
        other = one.send(series(1), 2, "start")
        for call in calls[1:]:
            one.sequences.abandon(call.turn)
        one.engine.gate.set()
        check((await other.result())["Y_h"], series(1))


class Client:
    """One of two hundred: sends parts of its sequence and knows what must come of them."""

    def __init__(self, number: int) -> None:
        self.random = np.random.default_rng(number)
        self.name: int | str = number // 2 if number % 4 < 2 else f"name {number // 2}"
        self.owner = "ab"[number % 2]
        self.parts: list[Array] | None = None
        self.used_at = 0.0

    async def turn(self, one: Bench) -> str:
        """Send one or two requests and compare; return what kind of thing was done."""
        if self.parts is not None and self.used_at <= one.clock.now - IDLE_S:
            self.parts = None
        part = self._next_part()
        flags = str(self.random.choice(["", "", "", "start", "end", "start end"]))
        if "start" not in flags and self.parts is None and self.random.random() < 0.7:
            flags += " start"
        if "start" not in flags and self.parts is None:
            with pytest.raises(UnknownSequenceError):
                one.send(part, self.name, flags, self.owner)
            return "unknown"
        calls = [self._send(one, part, flags)]
        if "end" not in flags and self.random.random() < 0.3:
            calls.append(self._send(one, self._next_part(), ""))
        kind = "restart" if "start" in flags and self.used_at else flags
        self.used_at = one.clock.now
        for call, parts in calls:
            check((await call.result())["Y_h"], *parts)
        return kind

    def _next_part(self) -> Array:
        steps = int(self.random.integers(1, 9))
        return self.random.standard_normal((steps, 1, INPUT_SIZE)).astype(np.float32)

    def _send(self, one: Bench, part: Array, flags: str) -> tuple[Call, list[Array]]:
        parts = [] if "start" in flags or self.parts is None else self.parts
        parts = [*parts, part]
        self.parts = None if "end" in flags else parts
        return one.send(part, self.name, flags, self.owner), parts


async def test_two_hundred_interleaved_sequences_equal_the_oracle() -> None:
    clients = [Client(number) for number in range(200)]
    random = np.random.default_rng(1)
    kinds: set[str] = set()
    async with bench() as one:
        for _ in range(8):
            some = random.permutation(200)[:100]
            kinds |= set(await asyncio.gather(*(clients[n].turn(one) for n in some)))
            one.clock.now += IDLE_S * 0.4
    assert {"", "restart", "unknown"} <= kinds
    assert max(one.engine.rows) > 8
