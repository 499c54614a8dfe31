"""What a gateway has waiting, and the callers that it refuses for a while."""

import asyncio
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from app.errors import OverloadedError
from app.gateway.backlog import Backlog
from app.gateway.pauses import Flow, Pauses
from app.tensors import Tensors
from tests.fakes import ManualClock

FLOOD, MODEST = "flood", "modest"
STEPS = 10

Answer = asyncio.Future[Tensors]


class Load:
    """Requests of one flow that wait; the clock says how long an answer takes."""

    def __init__(self, backlog: Backlog, clock: ManualClock) -> None:
        self._backlog = backlog
        self._clock = clock
        self._answers: list[Answer] = []
        self._calls: list[asyncio.Task[Tensors]] = []

    async def send(self, count: int, flow: str = FLOOD) -> None:
        for _ in range(count):
            answer: Answer = asyncio.get_running_loop().create_future()
            self._answers.append(answer)
            self._calls.append(asyncio.create_task(self._backlog.follow(answer, flow, STEPS)))
        await asyncio.sleep(0)

    async def answer(self, count: int, seconds: float) -> None:
        for _ in range(count):
            self._clock.now += seconds
            self._answers.pop(0).set_result({})
            await self._calls.pop(0)

    async def answer_all(self) -> None:
        await self.answer(len(self._answers), 0.0)


@asynccontextmanager
async def slow_backlog() -> AsyncIterator[tuple[Backlog, Load]]:
    """A backlog that has learnt: ten requests, 100 steps, a second; 50 requests wait."""
    clock = ManualClock()
    backlog = Backlog(clock)
    load = Load(backlog, clock)
    await load.send(60)
    await load.answer(10, 0.1)
    yield backlog, load
    await load.answer_all()


async def test_caller_whose_work_would_wait_too_long_is_refused() -> None:
    async with slow_backlog() as (backlog, _):
        backlog.check(FLOOD, STEPS, max_wait_s=6.0)
        with pytest.raises(OverloadedError) as refusal:
            backlog.check(FLOOD, STEPS, max_wait_s=4.0)
        assert refusal.value.retry_after_s == 5
        assert refusal.value.pause_s == pytest.approx(5.0 - 3.0)


async def test_other_caller_is_let_in() -> None:
    async with slow_backlog() as (backlog, load):
        backlog.check(MODEST, STEPS, max_wait_s=0.5)
        await load.send(2, MODEST)
        backlog.check(MODEST, STEPS, max_wait_s=0.5)
        await load.send(1, MODEST)
        with pytest.raises(OverloadedError):
            backlog.check(MODEST, STEPS, max_wait_s=0.5)


async def test_few_requests_are_never_refused() -> None:
    async with slow_backlog() as (backlog, load):
        await load.answer(19, 0.1)
        backlog.check(FLOOD, STEPS, max_wait_s=0.001)


async def test_light_load_tells_nothing_of_the_speed() -> None:
    clock = ManualClock()
    backlog = Backlog(clock)
    load = Load(backlog, clock)
    for _ in range(20):  # one at a time, as slow as its caller asks
        await load.send(1)
        await load.answer(1, 10.0)
    await load.send(200)
    backlog.check(FLOOD, STEPS, max_wait_s=1.0)
    await load.answer_all()


def test_flow_is_refused_until_its_pause_ends() -> None:
    clock = ManualClock()
    pauses = Pauses(clock)
    flow = Flow("m", FLOOD)
    pauses.check(flow)
    pauses.begin(flow, OverloadedError("too much", 3, pause_s=0.5))
    with pytest.raises(OverloadedError, match="too much") as refusal:
        pauses.check(flow)
    assert refusal.value.retry_after_s == 3
    pauses.check(Flow("m", MODEST))
    pauses.check(Flow("other", FLOOD))
    pauses.check(Flow("m", FLOOD, priority=1))
    clock.now = 0.5
    pauses.check(flow)
    assert not pauses.is_any


def test_refusal_that_says_nothing_of_others_begins_no_pause() -> None:
    pauses = Pauses(ManualClock())
    pauses.begin(Flow("m", FLOOD), OverloadedError("too late"))
    assert not pauses.is_any


def test_raised_error_is_not_kept_with_its_frames() -> None:
    pauses = Pauses(ManualClock())
    with pytest.raises(OverloadedError) as raised:
        raise OverloadedError("too much", pause_s=1.0)
    pauses.begin(Flow("m", FLOOD), raised.value)
    reason = pauses.reason_of(Flow("m", FLOOD))
    assert reason is not None
    assert reason.__traceback__ is None


def test_pause_that_has_ended_counts_no_more_though_nobody_asks() -> None:
    clock = ManualClock()
    pauses = Pauses(clock)
    pauses.begin(Flow("m", FLOOD), OverloadedError("too much", pause_s=1.0))
    pauses.begin(Flow("m", MODEST), OverloadedError("too much", pause_s=0.5))
    clock.now = 0.7
    assert pauses.is_any
    clock.now = 1.0
    assert not pauses.is_any


def test_pauses_that_have_ended_are_forgotten_when_another_begins() -> None:
    clock = ManualClock()
    pauses = Pauses(clock)
    pauses.begin(Flow("m", FLOOD), OverloadedError("too much", pause_s=1.0))
    reason = pauses.reason_of(Flow("m", FLOOD))
    assert reason is not None
    kept = weakref.ref(reason)
    del reason
    clock.now = 1.0
    pauses.begin(Flow("m", MODEST), OverloadedError("too much", pause_s=1.0))
    assert kept() is None
