"""Runs that would take too long are refused or divided before they begin."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from typing_extensions import override

from app.artifact.specs import TensorSpec
from app.errors import EngineError, PayloadTooLargeError
from app.interface import BATCH, TIME, Interface
from app.runner.batcher import DynamicBatcher
from app.runner.pace import first_steps
from app.runner.queue import PendingRequest, Terms
from app.tensors import Tensors
from tests.app.test_batcher import LIMITS, Caller
from tests.fake_engine import INTERFACE, FakeEngine
from tests.fakes import ManualClock

# A run may take three times the half second of these limits.
ROOMY = replace(LIMITS, max_queue_steps=10**9, max_batch_steps=10**9)


class TimedEngine(FakeEngine):
    """Takes so long for every run, and so long for each of its steps."""

    def __init__(self, clock: ManualClock, *, run_s: float = 0.0, step_s: float = 0.0) -> None:
        super().__init__()
        self.run_s, self.step_s = run_s, step_s
        self.clock = clock

    @override
    def run(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        rows, length = inputs["past_target"].shape
        self.clock.now += self.run_s + self.step_s * rows * length
        return super().run(inputs, outputs)

    @property
    def longest(self) -> int:
        return max(length for _, length in self.shapes)


def timed(engine: TimedEngine) -> DynamicBatcher:
    return DynamicBatcher(engine, ROOMY, model_name="m", clock=engine.clock)


class ManyRows(Caller):
    """A request of eight rows, each of 500 steps."""

    def __init__(self, group: str | None = "any") -> None:
        super().__init__([1.0])
        inputs = {
            "past_target": np.ones((8, 500), np.float32),
            "sequence_lens": np.full(8, 500, np.int32),
        }
        extent = replace(INTERFACE.extent_of(inputs), group=group)
        self.request = PendingRequest(inputs, ["sum"], extent, Terms(0.0, 1e12), answer=self._take)


async def test_row_that_would_take_too_long_is_refused_before_it_runs() -> None:
    engine = TimedEngine(ManualClock(), step_s=0.001)
    async with timed(engine) as batching:
        too_long = Caller([1.0] * 2000)
        batching.submit(too_long.request)
        with pytest.raises(PayloadTooLargeError, match=r"2\.0 s, .* 1\.5 s"):
            await too_long.answer()
    assert engine.longest < 100


async def test_row_that_takes_as_long_as_it_may_is_run() -> None:
    engine = TimedEngine(ManualClock(), step_s=0.001)
    async with timed(engine) as batching:
        caller = Caller([1.0] * 1499)
        batching.submit(caller.request)
        assert await caller.sum() == 1499


async def test_slow_short_runs_refuse_no_long_row() -> None:
    engine = TimedEngine(ManualClock(), run_s=0.01, step_s=1e-5)
    async with timed(engine) as batching:
        for length in (1, 10, 100_000):
            caller = Caller([1.0] * length)
            batching.submit(caller.request)
            assert await caller.sum() == length


async def test_refused_row_fails_none_of_its_batch() -> None:
    engine = TimedEngine(ManualClock(), step_s=0.001)
    long, short = Caller([1.0] * 1600), Caller([1.0] * 1450)
    async with timed(engine) as batching:
        batching.submit(long.request)
        batching.submit(short.request)
        assert await short.sum() == 1450
        with pytest.raises(PayloadTooLargeError):
            await long.answer()


async def test_rows_that_would_take_too_long_together_are_run_in_parts() -> None:
    engine = TimedEngine(ManualClock(), step_s=0.001)
    caller = ManyRows()
    async with timed(engine) as batching:
        batching.submit(caller.request)
        sums = (await caller.answer())["sum"]
    assert sums.tolist() == [500.0] * 8
    assert [shape for shape in engine.shapes if shape[1] == 500] == [(2, 500)] * 4


async def test_what_shares_with_nobody_is_run_as_it_is() -> None:
    engine = TimedEngine(ManualClock(), step_s=0.001)
    caller = ManyRows(group=None)
    async with timed(engine) as batching:
        batching.submit(caller.request)
        await caller.answer()
    assert engine.shapes == [(8, 500)]


async def test_refusal_costs_no_run_until_the_speed_is_measured_again() -> None:
    engine = TimedEngine(ManualClock(), step_s=0.001)
    too_long, too_soon, later = (Caller([1.0] * 2000) for _ in range(3))
    async with timed(engine) as batching:
        batching.submit(too_long.request)
        with pytest.raises(PayloadTooLargeError):
            await too_long.answer()
        engine.step_s, engine.shapes = 0.0005, []
        batching.submit(too_soon.request)
        with pytest.raises(PayloadTooLargeError):
            await too_soon.answer()
        assert engine.shapes == []
        engine.clock.now += 60
        batching.submit(later.request)
        assert await later.sum() == 2000


async def test_first_steps_that_fail_refuse_nothing() -> None:
    engine = TimedEngine(ManualClock(), step_s=0.001)
    engine.error = EngineError("broken")
    async with timed(engine) as batching:
        caller = Caller([1.0] * 2000)
        batching.submit(caller.request)
        with pytest.raises(EngineError, match="broken"):
            await caller.answer()


async def test_parts_of_a_run_count_as_runs_of_their_own() -> None:
    engine = TimedEngine(ManualClock(), step_s=0.001)
    begun: list[float | None] = []
    async with timed(engine) as batching:
        run = engine.run

        def watched(inputs: Tensors, outputs: Sequence[str]) -> Tensors:
            begun.append(batching.running_since)
            return run(inputs, outputs)

        engine.run = watched  # type: ignore[method-assign]
        caller = ManyRows()
        batching.submit(caller.request)
        await caller.answer()
    assert begun == sorted(set(begun), key=lambda at: at or 0.0)
    assert batching.running_since is None


def test_first_steps_are_cut_from_all_that_has_steps() -> None:
    interface = Interface(
        inputs=(
            TensorSpec(name="past", datatype="FP32", shape=(TIME, BATCH, 2)),
            TensorSpec(name="future", datatype="FP32", shape=(BATCH, f"{TIME}+3")),
            TensorSpec(name="state", datatype="FP32", shape=(BATCH, 4)),
            TensorSpec(name="lengths", datatype="INT32", shape=(BATCH,)),
        ),
        outputs=(),
        lengths="lengths",
        is_mergeable=True,
    )
    inputs: Tensors = {
        "past": np.zeros((9, 2, 2), np.float32),
        "future": np.zeros((2, 12), np.float32),
        "state": np.zeros((2, 4), np.float32),
        "lengths": np.array([9, 3], np.int32),
    }
    part = first_steps(inputs, interface, 5)
    assert [array.shape for array in part.values()] == [(5, 2, 2), (2, 8), (2, 4), (2,)]
    assert part["lengths"].tolist() == [5, 3]
    assert part["lengths"].dtype == np.int32
