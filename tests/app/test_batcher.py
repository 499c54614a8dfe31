"""One promise: every caller is answered exactly once."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import override

from app.errors import (
    DeadlineExceededError,
    DeviceLostError,
    EngineError,
    GatecastError,
    ModelNotReadyError,
    ModelOutputError,
    OutOfMemoryError,
    OverloadedError,
    ShuttingDownError,
)
from app.runner.batcher import DynamicBatcher
from app.runner.merging import merge, split
from app.runner.queue import BatchLimits, PendingRequest, Terms
from app.statistics import Duration
from app.tensors import Tensors
from tests.fake_engine import INTERFACE, FakeEngine
from tests.fakes import ManualClock
from tests.waiting import until

LIMITS = BatchLimits(8, 4096, 0.5, 0.25, 20_000, 0.0)
FAR = 1e12


def series(values: list[float]) -> Tensors:
    return {
        "past_target": np.array([values], np.float32),
        "sequence_lens": np.array([len(values)], np.int32),
    }


class Caller:
    """A request and every answer that it got."""

    def __init__(self, values: list[float], deadline: float = FAR) -> None:
        self.answers: list[Tensors | GatecastError] = []
        self.answered = asyncio.Event()
        inputs = series(values)
        self.request = PendingRequest(
            inputs,
            ["sum", "length"],
            INTERFACE.extent_of(inputs),
            Terms(0.0, deadline),
            answer=self._take,
        )

    def _take(self, answer: Tensors | GatecastError) -> None:
        self.answers.append(answer)
        self.answered.set()

    async def answer(self) -> Tensors:
        await asyncio.wait_for(self.answered.wait(), 10)
        (answer,) = self.answers
        if isinstance(answer, GatecastError):
            raise answer
        return answer

    async def sum(self) -> float:
        return float((await self.answer())["sum"][0])


def batcher(
    engine: FakeEngine,
    limits: BatchLimits = LIMITS,
    executor: ThreadPoolExecutor | None = None,
    clock: Callable[[], float] = lambda: 0.0,
) -> DynamicBatcher:
    return DynamicBatcher(engine, limits, model_name="m", executor=executor, clock=clock)


async def test_waiting_requests_share_one_run() -> None:
    engine = FakeEngine()
    callers = [Caller([float(n)] * 10) for n in range(5)]
    async with batcher(engine) as batching:
        for caller in callers:
            batching.submit(caller.request)
        sums = [await caller.sum() for caller in callers]
    assert sums == [0.0, 10.0, 20.0, 30.0, 40.0]
    assert engine.shapes == [(5, 10)]


async def test_ragged_rows_are_padded_on_the_right() -> None:
    engine = FakeEngine()
    long, short = Caller([1.0] * 10), Caller([2.0] * 9)
    async with batcher(engine) as batching:
        batching.submit(long.request)
        batching.submit(short.request)
        assert (await long.sum(), await short.sum()) == (10.0, 18.0)
    assert engine.shapes == [(2, 10)]


async def test_next_batch_gathers_while_one_runs() -> None:
    engine = FakeEngine(gate=threading.Event())
    callers = [Caller([1.0]) for _ in range(4)]
    with ThreadPoolExecutor(1) as executor:
        async with batcher(engine, executor=executor) as batching:
            batching.submit(callers[0].request)
            await until(lambda: bool(engine.shapes))
            for caller in callers[1:]:
                batching.submit(caller.request)
            assert engine.gate is not None
            engine.gate.set()
            for caller in callers:
                await caller.sum()
    assert engine.shapes == [(1, 1), (3, 1)]


async def test_failed_run_reaches_every_caller_and_the_next_run_works() -> None:
    engine = FakeEngine()
    engine.error = EngineError("broken")
    first, second, third = Caller([1.0]), Caller([2.0]), Caller([3.0])
    async with batcher(engine) as batching:
        batching.submit(first.request)
        batching.submit(second.request)
        for caller in (first, second):
            with pytest.raises(EngineError, match="broken"):
                await caller.answer()
        engine.error = None
        batching.submit(third.request)
        assert await third.sum() == 3.0


async def test_unexpected_error_does_not_end_the_batcher_or_tell_internals() -> None:
    engine = FakeEngine()
    engine.error = KeyError("secret")
    first, second = Caller([1.0]), Caller([2.0])
    async with batcher(engine) as batching:
        batching.submit(first.request)
        with pytest.raises(EngineError, match=r"^the model run failed$"):
            await first.answer()
        engine.error = None
        batching.submit(second.request)
        assert await second.sum() == 2.0


async def test_abandoned_request_harms_nobody_and_is_not_run() -> None:
    engine = FakeEngine()
    gone, staying = Caller([1.0]), Caller([2.0])
    async with batcher(engine) as batching:
        batching.submit(gone.request)
        batching.submit(staying.request)
        batching.abandon(gone.request)
        assert await staying.sum() == 2.0
    assert engine.shapes == [(1, 1)]
    assert gone.answers == []


async def test_batch_of_abandoned_requests_never_reaches_the_engine() -> None:
    engine = FakeEngine()
    callers = [Caller([1.0]) for _ in range(3)]
    async with batcher(engine) as batching:
        for caller in callers:
            batching.submit(caller.request)
        for caller in callers:
            batching.abandon(caller.request)
        await batching.drain()
    assert engine.shapes == []


async def test_full_queue_is_refused() -> None:
    limits = BatchLimits(8, 4096, 0.5, 0.25, 15, 0.0)
    async with batcher(FakeEngine(), limits) as batching:
        batching.submit(Caller([1.0] * 10).request)
        with pytest.raises(OverloadedError):
            batching.submit(Caller([1.0] * 10).request)


async def test_expired_request_is_refused_at_the_door() -> None:
    async with batcher(FakeEngine(), clock=lambda: 5.0) as batching:
        with pytest.raises(DeadlineExceededError):
            batching.submit(Caller([1.0], deadline=4.0).request)


async def test_request_that_expires_while_it_waits_is_told_and_not_run() -> None:
    now = [0.0]
    engine = FakeEngine()
    late = Caller([1.0], deadline=1.0)
    async with batcher(engine, clock=lambda: now[0]) as batching:
        batching.submit(late.request)
        now[0] = 2.0
        with pytest.raises(DeadlineExceededError):
            await late.answer()
    assert engine.shapes == []


async def test_closing_answers_everyone_who_waits() -> None:
    engine = FakeEngine(gate=threading.Event())
    running, waiting = Caller([1.0]), Caller([2.0])
    with ThreadPoolExecutor(1) as executor:
        batching = batcher(engine, executor=executor)
        async with batching:
            batching.submit(running.request)
            await until(lambda: bool(engine.shapes))
            batching.submit(waiting.request)
        assert engine.gate is not None
        engine.gate.set()
        for caller in (running, waiting):
            with pytest.raises(ShuttingDownError):
                await caller.answer()
    with pytest.raises(ShuttingDownError):
        batching.submit(Caller([3.0]).request)


async def test_draining_answers_what_is_queued_and_refuses_more() -> None:
    engine = FakeEngine()
    callers = [Caller([float(n)]) for n in range(20)]
    async with batcher(engine) as batching:
        for caller in callers:
            batching.submit(caller.request)
        await batching.drain()
        assert [await caller.sum() for caller in callers] == [float(n) for n in range(20)]
        with pytest.raises(ShuttingDownError):
            batching.submit(Caller([1.0]).request)


async def test_queue_delay_waits_for_company() -> None:
    now = [0.0]
    engine = FakeEngine()
    limits = BatchLimits(8, 4096, 0.5, 0.25, 20_000, max_queue_delay_s=1.0)
    first, second = Caller([1.0]), Caller([2.0])
    async with batcher(engine, limits, clock=lambda: now[0]) as batching:
        batching.submit(first.request)
        await asyncio.sleep(0.01)
        batching.submit(second.request)
        now[0] = 2.0
        assert (await first.sum(), await second.sum()) == (1.0, 2.0)
    assert engine.shapes == [(2, 1)]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12))
def test_merge_then_split_is_the_identity(lengths: list[int]) -> None:
    echo = replace(INTERFACE, outputs=INTERFACE.inputs)
    requests = [series([float(n)] * length) for n, length in enumerate(lengths)]
    merged = merge(requests, echo)
    assert merged["past_target"].shape == (len(lengths), max(lengths))
    rows = split([echo.extent_of(request) for request in requests], merged, echo)
    for request, own in zip(requests, rows, strict=True):
        np.testing.assert_array_equal(own["past_target"], request["past_target"])


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 60), st.booleans()), min_size=1, max_size=40))
async def test_random_arrivals_get_their_own_numbers(arrivals: list[tuple[int, bool]]) -> None:
    callers = [Caller([float(n)] * length) for n, (length, _) in enumerate(arrivals)]
    async with batcher(FakeEngine()) as batching:
        for caller, (_, pauses) in zip(callers, arrivals, strict=True):
            batching.submit(caller.request)
            if pauses:
                await asyncio.sleep(0)
        for n, (caller, (length, _)) in enumerate(zip(callers, arrivals, strict=True)):
            assert await caller.sum() == n * length


class CarefulEngine(FakeEngine):
    """Refuses every batch that holds a number beyond all bounds."""

    @override
    def run(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        if inputs["past_target"].max() > 1e30:
            raise ModelOutputError("not finite")
        return super().run(inputs, outputs)


async def test_extreme_numbers_of_one_caller_fail_only_that_caller() -> None:
    callers = [Caller([value] * 10) for value in (1.0, 1e31, 2.0)]
    async with batcher(CarefulEngine()) as batching:
        for caller in callers:
            batching.submit(caller.request)
        assert await callers[0].sum() == 10.0
        assert await callers[2].sum() == 20.0
        with pytest.raises(ModelOutputError):
            await callers[1].answer()


class SmallEngine(FakeEngine):
    """Has memory for so many rows."""

    def __init__(self, most_rows: int) -> None:
        super().__init__()
        self._most_rows = most_rows

    @override
    def run(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        if len(inputs["past_target"]) > self._most_rows:
            raise OutOfMemoryError("no memory")
        return super().run(inputs, outputs)


@pytest.mark.parametrize("most_rows", [1, 2, 3])
async def test_batch_without_room_in_memory_is_run_in_parts(most_rows: int) -> None:
    engine = SmallEngine(most_rows)
    callers = [Caller([float(number)] * (number + 1)) for number in range(7)]
    async with batcher(engine) as batching:
        for caller in callers:
            batching.submit(caller.request)
        sums = [await caller.sum() for caller in callers]
    assert sums == [number * (number + 1.0) for number in range(7)]
    assert sum(rows for rows, _ in engine.shapes) == 7


async def test_row_without_room_in_memory_is_worth_another_try() -> None:
    caller = Caller([1.0])
    async with batcher(SmallEngine(0)) as batching:
        batching.submit(caller.request)
        with pytest.raises(OverloadedError):
            await caller.answer()


async def test_lost_device_is_told_and_its_requests_are_worth_another_try() -> None:
    engine, losses = FakeEngine(), list[str]()
    engine.error = DeviceLostError("CUDA failure 700")
    caller = Caller([1.0])
    async with batcher(engine) as batching:
        batching.lost = lambda: losses.append("lost")
        batching.submit(caller.request)
        with pytest.raises(ModelNotReadyError):
            await caller.answer()
    assert losses == ["lost"]


@pytest.mark.parametrize("num_slots", [1, 2])
async def test_batcher_that_can_not_go_on_ends_its_process(
    num_slots: int, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(_: Tensors | GatecastError) -> None:
        raise RecursionError("unexpected")

    losses, caller = list[str](), Caller([1.0]).request
    inputs, outputs = caller.inputs, caller.outputs
    request = PendingRequest(inputs, outputs, caller.extent, caller.terms, answer=answer)
    async with batcher(FakeEngine(), replace(LIMITS, num_slots=num_slots)) as batching:
        batching.lost = lambda: losses.append("lost")
        batching.submit(request)
        await until(lambda: bool(losses))
    assert losses == ["lost"]
    assert "RecursionError: unexpected" in caplog.text


async def test_statistics_count_requests_rows_and_runs() -> None:
    callers = [Caller([1.0] * 10) for _ in range(3)]
    async with batcher(FakeEngine()) as batching:
        for caller in callers:
            batching.submit(caller.request)
        for caller in callers:
            await caller.answer()
        statistics = batching.statistics
    assert (statistics.inference_count, statistics.execution_count) == (3, 1)
    assert (statistics.success.count, statistics.queue.count, statistics.fail.count) == (3, 3, 0)
    assert statistics.requests.compute_infer.count == 3
    assert {rows: times.compute_infer.count for rows, times in statistics.batches.items()} == {3: 1}
    assert statistics.last_inference_ms > 0


async def test_statistics_take_times_from_the_clock() -> None:
    ticks = iter(range(100))
    caller = Caller([1.0])
    async with batcher(FakeEngine(), clock=lambda: float(next(ticks))) as batching:
        batching.submit(caller.request)
        await caller.answer()
        statistics = batching.statistics
    assert statistics.requests.compute_infer == Duration(1, 1_000_000_000)
    assert statistics.success.ns > statistics.queue.ns > 0


async def test_statistics_count_failures() -> None:
    engine = FakeEngine()
    engine.error = EngineError("no")
    caller = Caller([1.0])
    async with batcher(engine) as batching:
        batching.submit(caller.request)
        with pytest.raises(EngineError):
            await caller.answer()
        assert (batching.statistics.fail.count, batching.statistics.success.count) == (1, 0)
        assert batching.statistics.failures == {"BACKEND": 1}


async def test_statistics_tell_expired_from_abandoned_requests() -> None:
    gate = threading.Event()
    clock = ManualClock()
    first, expired, left = Caller([1.0]), Caller([1.0], deadline=1.0), Caller([1.0])
    with ThreadPoolExecutor(1) as pool:
        async with batcher(FakeEngine(gate), executor=pool, clock=clock) as batching:
            batching.submit(first.request)
            await until(lambda: batching.running_since is not None)
            batching.submit(expired.request)
            batching.submit(left.request)
            assert batching.read_statistics().pending_count == 2
            batching.abandon(left.request)
            clock.now = 2.0
            gate.set()
            with pytest.raises(DeadlineExceededError):
                await expired.answer()
            await batching.drain()
            assert batching.statistics.failures == {"REJECTED": 1, "CANCELED": 1}
            assert batching.read_statistics().pending_count == 0
