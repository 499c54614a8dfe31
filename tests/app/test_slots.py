"""Several runs under way at a time: still every caller is answered exactly once."""

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from app.errors import EngineError, ShuttingDownError
from app.runner.batcher import DynamicBatcher
from app.runner.queue import BatchLimits
from app.statistics import Duration
from tests.app.test_batcher import Caller
from tests.fake_engine import FakeEngine
from tests.fakes import ManualClock
from tests.waiting import until

ONE_ROW = BatchLimits(1, 4096, 0.5, 0.25, 20_000, 0.0)


@asynccontextmanager
async def held_back(num_slots: int) -> AsyncIterator[tuple[FakeEngine, DynamicBatcher]]:
    """A batcher of one row a run, whose runs wait for the gate."""
    gate = threading.Event()
    engine = FakeEngine(gate)
    with ThreadPoolExecutor(num_slots) as executor:
        try:
            async with DynamicBatcher(
                engine, replace(ONE_ROW, num_slots=num_slots), model_name="m", executor=executor
            ) as batching:
                yield engine, batching
        finally:
            gate.set()


def submit(batching: DynamicBatcher, count: int) -> list[Caller]:
    callers = [Caller([float(n)]) for n in range(count)]
    for caller in callers:
        batching.submit(caller.request)
    return callers


def open_gate(engine: FakeEngine) -> None:
    assert engine.gate is not None
    engine.gate.set()


@pytest.mark.parametrize("num_slots", [1, 2, 3])
async def test_as_many_runs_begin_as_there_are_slots(num_slots: int) -> None:
    async with held_back(num_slots) as (engine, batching):
        callers = submit(batching, 7)
        await until(lambda: len(engine.shapes) == num_slots)
        assert batching.read_statistics().pending_count == 7 - num_slots
        open_gate(engine)
        assert [await caller.sum() for caller in callers] == [float(n) for n in range(7)]


async def test_oldest_run_tells_how_long_something_runs() -> None:
    async with held_back(2) as (engine, batching):
        assert batching.running_since is None
        first = submit(batching, 1)
        await until(lambda: len(engine.shapes) == 1)
        began = batching.running_since
        second = submit(batching, 1)
        await until(lambda: len(engine.shapes) == 2)
        assert batching.running_since == began
        open_gate(engine)
        for caller in (*first, *second):
            await caller.sum()
        await until(lambda: batching.running_since is None)


async def test_waiting_for_runs_of_another_model_is_no_run() -> None:
    clock, engine = ManualClock(), FakeEngine(threading.Event())
    with ThreadPoolExecutor(1) as executor:
        async with (
            DynamicBatcher(
                engine, ONE_ROW, model_name="a", executor=executor, clock=clock
            ) as running,
            DynamicBatcher(
                FakeEngine(), ONE_ROW, model_name="b", executor=executor, clock=clock
            ) as waiting,
        ):
            (first,) = submit(running, 1)
            await until(lambda: len(engine.shapes) == 1)
            (second,) = submit(waiting, 1)
            await until(lambda: waiting.read_statistics().pending_count == 0)
            assert (running.running_since, waiting.running_since) == (0.0, None)
            clock.now = 5.0
            open_gate(engine)
            await first.sum()
            await second.sum()
            statistics = waiting.statistics
            assert statistics.requests.compute_input == Duration(1, 0)
            assert statistics.requests.compute_infer == Duration(1, 0)
            assert statistics.queue == Duration(1, 5_000_000_000)


async def test_closing_answers_runs_under_way_and_those_not_yet_begun() -> None:
    async with held_back(2) as (engine, batching):
        callers = submit(batching, 5)
        await until(lambda: len(engine.shapes) == 2)
    for caller in callers:
        with pytest.raises(ShuttingDownError):
            await caller.answer()


async def test_closing_at_once_answers_everyone() -> None:
    for turns in range(6):
        async with held_back(2) as (_, batching):
            callers = submit(batching, 3)
            for _ in range(turns):  # so that closing meets each step of the worker
                await asyncio.sleep(0)
        for caller in callers:
            with pytest.raises(ShuttingDownError):
                await caller.answer()


async def test_failing_runs_harm_no_later_ones() -> None:
    async with held_back(2) as (engine, batching):
        engine.error = EngineError("broken")
        failing = submit(batching, 4)
        open_gate(engine)
        for caller in failing:
            with pytest.raises(EngineError, match="broken"):
                await caller.answer()
        engine.error = None
        assert [await caller.sum() for caller in submit(batching, 3)] == [0.0, 1.0, 2.0]


async def test_draining_waits_for_all_runs() -> None:
    async with held_back(2) as (engine, batching):
        callers = submit(batching, 3)
        await until(lambda: len(engine.shapes) == 2)
        draining = asyncio.create_task(batching.drain())
        await asyncio.sleep(0.01)
        assert not draining.done()
        open_gate(engine)
        await draining
        assert [len(caller.answers) for caller in callers] == [1, 1, 1]
