"""States kept of recent histories, on a real forecaster, against full runs of it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import REGISTRY

from app.artifact.golden_case import relative_error
from app.errors import EngineError, GatecastError, OverloadedError
from app.runner.batcher import DynamicBatcher
from app.runner.engine import OrtEngine
from app.runner.histories import Histories
from app.runner.queue import BatchLimits, PendingRequest, Terms
from app.runner.state_cache import LEAST_STEPS, StateCache
from app.tensors import Tensors
from export.samples import make_samples, take_steps
from tests.tiny_artifact import tiny_artifact

LIMITS = BatchLimits(32, 8192, 0.5, 0.25, 100_000, 0.0)
VERSION = ("tiny", 1, "a")
OTHER = ("tiny", 2, "b")
FAR = 1e12
TOLERANCE = 1e-5
"""What float32 rounding explains, and the promise to callers."""

PLENTY = 2**24
COVARIATES = {"past_covariates": ("price",), "future_covariates": ("promo",)}

Array = NDArray[np.float32]


@cache
def load(*names: str) -> OrtEngine:
    overrides: dict[str, Any] = {name: COVARIATES[name] for name in names}
    return OrtEngine.from_bytes(tiny_artifact(**overrides or {"context_length": 512}), "cpu")


class CountingEngine:
    """A real engine that knows how many steps each run had, and fails where an error is set.

    Where ``failing`` is set as well, only runs of that shape fail.
    """

    def __init__(self, engine: OrtEngine) -> None:
        self.interface = engine.interface
        self.error: EngineError | None = None
        self.failing: tuple[int, int] | None = None
        self.shapes: list[tuple[int, int]] = []
        self._engine = engine

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        self.shapes.append(inputs["past_target"].shape)
        if self.error is not None and self.failing in {None, self.shapes[-1]}:
            raise self.error
        return self._engine.run(inputs, outputs)


@dataclass
class Call:
    """A request that was sent."""

    answers: list[Tensors | GatecastError] = field(default_factory=list)
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    request: PendingRequest | None = None
    abandon: Any = None

    def take(self, answer: Tensors | GatecastError) -> None:
        self.answers.append(answer)
        self.answered.set()

    async def quantiles(self) -> Array:
        await asyncio.wait_for(self.answered.wait(), 10)
        (answer,) = self.answers
        if isinstance(answer, GatecastError):
            raise answer
        assert answer.keys() == {"quantiles"}
        return answer["quantiles"]


class Bench:
    """A cache before a batcher; ``ask`` sends a request and waits for its quantiles."""

    def __init__(self, engine: OrtEngine, batcher: DynamicBatcher, max_bytes: int) -> None:
        self.engine = engine
        self.batcher = batcher
        self.cache = StateCache(max_bytes)
        self.histories = Histories(self.cache)
        self.histories.serve([(VERSION, engine.interface)])

    def send(self, inputs: Tensors, owner: str = "", version: Any = VERSION) -> Call:
        call = Call()
        extent = self.engine.interface.extent_of(inputs)
        request = PendingRequest(inputs, ["quantiles"], extent, Terms(0.0, FAR), answer=call.take)
        assert self.histories.takes(request, version)
        call.abandon = self.histories.submit(request, self.batcher, version, owner)
        return call

    async def ask(self, inputs: Tensors, *options: Any) -> Array:
        return await self.send(inputs, *options).quantiles()

    def full(self, inputs: Tensors) -> Array:
        quantiles: Array = self.engine.run(inputs, ["quantiles"])["quantiles"]
        return quantiles

    async def check(self, inputs: Tensors, *options: Any) -> None:
        assert relative_error(await self.ask(inputs, *options), self.full(inputs)) <= TOLERANCE


@asynccontextmanager
async def bench(
    engine: OrtEngine | None = None,
    max_bytes: int = PLENTY,
    limits: BatchLimits = LIMITS,
) -> AsyncIterator[tuple[Bench, CountingEngine]]:
    engine = engine or load()
    counting = CountingEngine(engine)
    async with DynamicBatcher(counting, limits, model_name="tiny") as batcher:
        one = Bench(engine, batcher, max_bytes)
        yield one, counting
        one.histories.serve([])  # gauges are those of the process


def stack(*series: Array) -> Tensors:
    lengths = np.array([len(values) for values in series], np.int32)
    target = np.zeros((len(series), int(lengths.max())), np.float32)
    for row, values in zip(target, series, strict=True):
        row[: len(values)] = values
    return {"past_target": target, "sequence_lens": lengths}


def series(seed: int, steps: int) -> Array:
    values = np.random.default_rng(seed).gamma(5, 20, steps).astype(np.float32)
    values[3::7] = np.nan
    return values


def reading(name: str) -> float:
    return REGISTRY.get_sample_value(f"gatecast_state_cache_{name}", {"model_name": "tiny"}) or 0.0


async def test_one_new_value_runs_one_step() -> None:
    values = series(0, 60)
    saved = reading("saved_steps_total")
    async with bench() as (one, engine):
        await one.check(stack(values[:50]))
        await one.check(stack(values[:51]))
        await one.check(stack(values))
    assert engine.shapes == [(1, 50), (1, 1), (1, 9)]
    assert reading("saved_steps_total") == saved + 50 + 51


async def test_same_history_again_is_not_run() -> None:
    async with bench() as (one, engine):
        first = await one.ask(stack(series(0, 50), series(1, 30)))
        again = await one.ask(stack(series(1, 30), series(0, 50)))
        assert one.batcher.statistics.success.count == 2
    assert engine.shapes == [(2, 50)]
    np.testing.assert_array_equal(again, first[::-1])


async def test_revised_last_value_goes_on_from_the_state_before_it() -> None:
    values = series(0, 50)
    revised = values.copy()
    revised[-1] += 1
    async with bench() as (one, engine):
        await one.check(stack(values[:-1]))
        await one.check(stack(values))
        await one.check(stack(revised))
    assert engine.shapes == [(1, 49), (1, 1), (1, 1)]


async def test_changed_past_is_run_whole() -> None:
    values = series(0, 50)
    changed = values.copy()
    changed[10] = np.nan if not np.isnan(changed[10]) else 1.0
    async with bench() as (one, engine):
        await one.check(stack(values))
        await one.check(stack(np.append(changed, np.float32(5))))
    assert engine.shapes == [(1, 50), (1, 51)]


async def test_rows_that_are_known_and_rows_that_are_not_share_a_request() -> None:
    known, fresh, short = series(0, 51), series(1, 51), series(2, LEAST_STEPS - 1)
    async with bench() as (one, engine):
        await one.ask(stack(known[:50], series(3, 20)))
        await one.check(stack(fresh, known, series(3, 20), short))
        statistics = one.batcher.statistics
        assert (statistics.success.count, statistics.queue.count) == (2, 2)
        assert statistics.requests.compute_infer.count == 2
    assert engine.shapes == [(2, 50), (2, 51), (1, 1)]


async def test_new_values_of_many_callers_share_runs() -> None:
    many = [series(seed, 40) for seed in range(20)]
    async with bench() as (one, engine):
        await one.ask(stack(*(values[:39] for values in many)))
        calls = [one.send(stack(values)) for values in many]
        for call, values in zip(calls, many, strict=True):
            assert relative_error(await call.quantiles(), one.full(stack(values))) <= TOLERANCE
    assert engine.shapes == [(20, 39), (20, 1)]


async def test_no_key_meets_the_states_of_another() -> None:
    async with bench() as (one, engine):
        for owner in ("", "a", "b"):
            await one.ask(stack(series(0, 50)), owner)
        await one.ask(stack(series(0, 51)), "c")
    assert engine.shapes == [(1, 50), (1, 50), (1, 50), (1, 51)]


async def test_replaced_model_takes_its_states_along() -> None:
    async with bench() as (one, engine):
        await one.ask(stack(series(0, 50)))
        one.histories.serve([(OTHER, one.engine.interface)])
        assert (len(one.cache), one.cache.num_bytes) == (0, 0)
        await one.ask(stack(series(0, 51)), "", OTHER)
        one.histories.serve([(VERSION, one.engine.interface)])
        await one.ask(stack(series(0, 50)))
    assert engine.shapes == [(1, 50), (1, 51), (1, 50)]


async def test_run_that_outlives_its_model_keeps_nothing() -> None:
    async with bench() as (one, _):
        call = one.send(stack(series(0, 50)))
        one.histories.serve([(OTHER, one.engine.interface)])
        await call.quantiles()
        assert len(one.cache) == 0


async def test_least_recently_used_states_go_first() -> None:
    async with bench() as (one, _):
        await one.ask(stack(series(0, 50)))
        of_one = one.cache.num_bytes
    async with bench(max_bytes=3 * of_one) as (one, engine):
        for seed in (0, 1, 2, 0, 3):  # 1 is the oldest when 3 comes
            await one.ask(stack(series(seed, 50)))
            assert one.cache.num_bytes <= 3 * of_one
        engine.shapes.clear()
        for seed in (3, 2, 0, 1):
            await one.ask(stack(series(seed, 50)))
        assert (reading("entries"), reading("bytes")) == (3, 3 * of_one)
    assert engine.shapes == [(1, 50)]
    assert (reading("entries"), reading("bytes")) == (0, 0)


async def test_state_larger_than_the_cache_is_not_kept() -> None:
    async with bench(max_bytes=100) as (one, _):
        await one.check(stack(series(0, 50)))
        assert (len(one.cache), one.cache.num_bytes) == (0, 0)


async def test_failed_run_keeps_nothing_and_fails_its_request() -> None:
    async with bench() as (one, engine):
        await one.ask(stack(series(0, 50)))
        engine.error = EngineError("broken")
        with pytest.raises(EngineError):
            await one.ask(stack(series(0, 51), series(1, 40)))
        assert len(one.cache) == 1
        engine.error = None
        await one.check(stack(series(0, 51), series(1, 40)))


@pytest.mark.parametrize("failing", [(1, 60), (1, 1)], ids=["first", "second"])
async def test_request_of_which_a_part_fails_counts_as_one_failure(
    failing: tuple[int, int],
) -> None:
    async with bench() as (one, engine):
        await one.ask(stack(series(0, 50)))
        engine.error, engine.failing = EngineError("broken"), failing
        with pytest.raises(EngineError):
            await one.ask(stack(series(1, 60), series(0, 51)))
        await one.batcher.drain()
        statistics = one.batcher.statistics
        assert (statistics.success.count, statistics.failures) == (1, {"BACKEND": 1})


async def test_refused_part_withdraws_the_others() -> None:
    limits = BatchLimits(32, 8192, 0.5, 0.25, 60, 0.0)
    async with bench(limits=limits) as (one, engine):
        await one.ask(stack(series(0, 50)))
        with pytest.raises(OverloadedError):
            one.send(stack(series(1, 60), series(0, 51)))
        await one.check(stack(series(2, 55)))
        assert one.batcher.statistics.failures == {}  # the server counts what it could not queue
    assert engine.shapes == [(1, 50), (1, 55)]


async def test_abandoned_request_is_not_run() -> None:
    async with bench() as (one, engine):
        await one.ask(stack(series(0, 50)))
        call = one.send(stack(series(0, 51), series(1, 40)))
        call.abandon()
        await one.check(stack(series(2, 30)))
        assert call.answers == []
        assert one.batcher.statistics.failures == {"CANCELED": 1}
    assert engine.shapes == [(1, 50), (1, 30)]


async def test_requests_with_states_of_their_own_are_left_alone() -> None:
    async with bench() as (one, _):
        inputs = stack(series(0, 20))
        extent = one.engine.interface.extent_of(inputs)
        states = one.engine.interface.initial_states(1)
        for given, outputs in (
            (inputs | states, ["quantiles"]),
            (inputs, ["quantiles", "next_hidden_state"]),
        ):
            request = PendingRequest(given, outputs, extent, Terms(0.0, FAR), answer=print)
            assert not one.histories.takes(request, VERSION)


async def test_covariates_are_part_of_a_history() -> None:
    engine = load("past_covariates", "future_covariates")
    samples = make_samples(engine.card, [40], 0)

    def first(steps: int) -> Tensors:
        return take_steps(samples, 0, np.array([steps], np.int32))

    other_plan = first(31)
    other_plan["future_covariates"] = other_plan["future_covariates"].copy()
    other_plan["future_covariates"][0, -1] = 99
    other_past = first(32)
    other_past["past_covariates"] = other_past["past_covariates"].copy()
    other_past["past_covariates"][0, 4] = 99
    async with bench(engine) as (one, counting):
        for inputs in (first(30), first(31), other_plan, other_past, first(40)):
            await one.check(inputs)
    assert counting.shapes == [(1, 30), (1, 1), (1, 1), (1, 32), (1, 9)]


class Traffic:
    """Callers that send histories as they come to mind: longer, shorter, again, revised."""

    def __init__(self, engine: OrtEngine, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        steps = min(engine.card.context_length, 100)
        self._pool = [make_samples(engine.card, [steps], n) for n in range(12)]
        self._steps = steps
        self._positions = [1] * len(self._pool)

    def request(self) -> tuple[Tensors, str]:
        """Return one series up to some step, and whose it is."""
        number = int(self._random.integers(len(self._pool)))
        move = int(self._random.choice([0, 1, 1, 1, 2, 5, 30, -1, -40]))
        length = min(max(1, self._positions[number] + move), self._steps)
        self._positions[number] = 1 if length == self._steps else length
        inputs = take_steps(self._pool[number], 0, np.array([length], np.int32))
        if self._random.random() < 0.2:
            place = int(self._random.integers(length))
            inputs["past_target"] = inputs["past_target"].copy()
            inputs["past_target"][0, place] = 7.0
        return inputs, "ab"[number % 2]


def join(parts: Sequence[Tensors]) -> Tensors:
    """Return one request of the rows of many."""
    longest = max(part["past_target"].shape[1] for part in parts)
    return {
        name: np.concatenate([_pad(part[name], name, part, longest) for part in parts])
        for name in parts[0]
    }


def _pad(array: NDArray[Any], name: str, part: Tensors, longest: int) -> NDArray[Any]:
    if name == "sequence_lens":
        return array
    missing = longest - part["past_target"].shape[1]
    return np.pad(array, [(0, 0), (0, missing), *[(0, 0)] * (array.ndim - 2)])


@pytest.mark.parametrize(
    ("names", "num_turns"), [((), 80), (tuple(COVARIATES), 40)], ids=["plain", "covariates"]
)
async def test_thousands_of_random_extensions_equal_full_runs(
    names: tuple[str, ...], num_turns: int
) -> None:
    engine = load(*names)
    traffic, random = Traffic(engine, 5), np.random.default_rng(6)
    hits = reading("hits_total")
    async with bench(engine, max_bytes=150_000) as (one, counting):
        for _ in range(num_turns):
            asked: list[tuple[Tensors, str]] = []
            for _ in range(8):
                parts = [traffic.request() for _ in range(random.integers(1, 5))]
                asked.append((join([inputs for inputs, _ in parts]), parts[0][1]))
            calls = [one.send(*request) for request in asked]
            answers = [await call.quantiles() for call in calls]
            want = one.full(join([inputs for inputs, _ in asked]))
            assert relative_error(np.concatenate(answers), want) <= TOLERANCE
    assert reading("hits_total") - hits > 5 * num_turns
    assert max(rows for rows, _ in counting.shapes) >= 8
