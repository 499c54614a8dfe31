"""Both ends of the socket together: the gateway's client and the runner's server, in one loop."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.artifact.directory import MODEL_FILE
from app.errors import (
    DeadlineExceededError,
    EngineError,
    InvalidInputError,
    ModelNotFoundError,
    ModelNotReadyError,
    ModelRefusedError,
    OverloadedError,
    UnknownSequenceError,
)
from app.gateway.runner_client import RunnerPool
from app.gateway.runner_connection import RunnerConnection
from app.gateway.runners import Inference
from app.runner.batcher import DynamicBatcher
from app.runner.engine import Device, Engine, OrtEngine
from app.runner.ledger import Ledger
from app.runner.queue import BatchLimits
from app.runner.repository import LoadedModel, LoadedVersions, Repository
from app.runner.sequences import Sequences
from app.runner.server import RunnerServer
from app.runner.shelf import ModelShelf
from app.statistics import statistics_file
from app.tensors import Tensors
from app.wire import SequencePart
from tests.fake_engine import FakeEngine
from tests.tiny_artifact import tiny_artifact
from tests.waiting import until

LIMITS = BatchLimits(8, 4096, 0.5, 0.25, 100_000, 0.0)
KEY = ("tiny", 1)


@pytest.fixture(scope="module")
def ort_engine() -> OrtEngine:
    return OrtEngine.from_bytes(tiny_artifact(), "cpu")


def sequences() -> Sequences:
    return Sequences(max_sequences=100, idle_timeout_s=60.0)


@asynccontextmanager
async def runner(
    path: Path,
    ort_engine: OrtEngine,
    engine: Engine | None = None,
    executor: ThreadPoolExecutor | None = None,
    device: Device = "cpu",
) -> AsyncIterator[RunnerServer]:
    """A runner server whose card is real and whose runs may be faked."""

    def make_batcher(name: str, version: int, given: Engine, limits: BatchLimits) -> DynamicBatcher:
        served = engine or given
        return DynamicBatcher(
            served, limits, model_name=name, model_version=version, executor=executor
        )

    shelf = ModelShelf(
        Repository(path.parent / "models", "cpu"),
        make_batcher,
        limits_of=lambda _: LIMITS,
        memory=path.with_suffix(".models"),
        retire_after_s=0.2,
    )
    async with shelf:
        server = RunnerServer(shelf, device, sequences(), Ledger(statistics_file(path)))
        versions = [LoadedModel("tiny", 2, None, "damaged"), LoadedModel(*KEY, ort_engine)]
        await shelf.put(LoadedVersions("tiny", versions))
        await server.listen(path)
        try:
            yield server
        finally:
            await server.close()


@asynccontextmanager
async def connected(path: Path, max_queue_steps: int = 10_000) -> AsyncIterator[RunnerPool]:
    async with RunnerPool([path], silence_s=5.0, max_queue_steps=max_queue_steps) as pool:
        await until(lambda: pool.is_ready)
        yield pool


def inference(
    values: list[float], outputs: tuple[str, ...] = ("quantiles",), seconds: float = 10.0
) -> Inference:
    inputs: Tensors = {
        "past_target": np.array([values], np.float32),
        "sequence_lens": np.array([len(values)], np.int32),
    }
    return Inference("tiny", 1, inputs, outputs, time.monotonic() + seconds, len(values))


async def test_answers_equal_those_of_the_engine(tmp_path: Path, ort_engine: OrtEngine) -> None:
    call = inference([1.0, 2.0, 3.0, 4.0])
    async with runner(tmp_path / "r", ort_engine), connected(tmp_path / "r") as pool:
        got = await pool.infer(call)
    want = ort_engine.run(call.inputs, ["quantiles"])
    np.testing.assert_array_equal(got["quantiles"], want["quantiles"])


async def test_concurrent_callers_get_their_own_rows(tmp_path: Path, ort_engine: OrtEngine) -> None:
    calls = [inference([float(n)] * (n % 50 + 1)) for n in range(1, 200)]
    async with runner(tmp_path / "r", ort_engine), connected(tmp_path / "r") as pool:
        together = await asyncio.gather(*(pool.infer(call) for call in calls))
    for call, got in zip(calls, together, strict=True):
        want = ort_engine.run(call.inputs, ["quantiles"])["quantiles"]
        np.testing.assert_allclose(got["quantiles"], want, rtol=1e-5)


async def test_models_are_listed_with_their_cards_and_reasons(
    tmp_path: Path, ort_engine: OrtEngine
) -> None:
    async with runner(tmp_path / "r", ort_engine), connected(tmp_path / "r") as pool:
        refused, sound = pool.models()
    assert sound.card == ort_engine.card
    assert (refused.interface, refused.card, refused.reason) == (None, None, "damaged")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sequence_lens": np.array([0], np.int32)}, "sequence_lens"),
        ({"sequence_lens": np.array([9], np.int32)}, "sequence_lens"),
        ({"sequence_lens": np.array([4], np.int64)}, "INT32"),
        ({"sequence_lens": np.array([4, 4], np.int32)}, "batch"),
        ({"past_target": np.zeros((1, 0), np.float32)}, "time"),
        ({"past_target": np.zeros((0, 4), np.float32)}, "batch"),
        ({"past_target": np.zeros(4, np.float32)}, "dimensions"),
        ({"past_target": np.full((1, 4), np.inf, np.float32)}, "at most 1e+30"),
        ({"past_target": np.zeros((1, 65), np.float32)}, "at most 64"),
        ({"unknown": np.zeros(1, np.float32)}, "no input"),
        ({"hidden_state": np.zeros((1, 2, 8), np.float32)}, "all together"),
    ],
    ids=lambda value: str(value)[:24],
)
async def test_tensors_that_do_not_fit_are_refused_one_by_one(
    tmp_path: Path, ort_engine: OrtEngine, changes: Tensors, message: str
) -> None:
    bad, good = inference([1.0] * 4), inference([1.0] * 4)
    bad.inputs.update(changes)
    async with runner(tmp_path / "r", ort_engine), connected(tmp_path / "r") as pool:
        answers = await asyncio.gather(pool.infer(bad), pool.infer(good), return_exceptions=True)
    assert isinstance(answers[0], InvalidInputError)
    assert message in str(answers[0])
    assert isinstance(answers[1], dict)


async def test_missing_input_is_refused(tmp_path: Path, ort_engine: OrtEngine) -> None:
    call = inference([1.0])
    call.inputs["lengths"] = call.inputs.pop("sequence_lens")
    async with runner(tmp_path / "r", ort_engine), connected(tmp_path / "r") as pool:
        with pytest.raises(InvalidInputError, match="sequence_lens is missing"):
            await pool.infer(call)


async def test_unknown_output_is_refused(tmp_path: Path, ort_engine: OrtEngine) -> None:
    async with runner(tmp_path / "r", ort_engine), connected(tmp_path / "r") as pool:
        with pytest.raises(InvalidInputError, match="outputs must be some of"):
            await pool.infer(inference([1.0], outputs=("weights",)))


async def test_unknown_model_is_refused(tmp_path: Path, ort_engine: OrtEngine) -> None:
    call = inference([1.0])
    other = Inference("other", 1, call.inputs, call.outputs, call.deadline, 1)
    async with runner(tmp_path / "r", ort_engine), connected(tmp_path / "r") as pool:
        with pytest.raises(ModelNotFoundError):
            await pool.infer(other)


async def test_engine_error_reaches_the_caller(tmp_path: Path, ort_engine: OrtEngine) -> None:
    engine = FakeEngine()
    engine.error = EngineError("broken")
    async with runner(tmp_path / "r", ort_engine, engine), connected(tmp_path / "r") as pool:
        with pytest.raises(EngineError, match="broken"):
            await pool.infer(inference([1.0]))


async def test_without_a_runner_the_answer_is_not_ready(tmp_path: Path) -> None:
    async with RunnerPool([tmp_path / "none"], silence_s=5, max_queue_steps=1000) as pool:
        with pytest.raises(ModelNotReadyError):
            await pool.infer(inference([1.0]))
        assert not pool.is_ready


@asynccontextmanager
async def held_back(
    path: Path, ort_engine: OrtEngine, max_queue_steps: int = 10_000
) -> AsyncIterator[tuple[FakeEngine, RunnerPool, threading.Event]]:
    """A runner whose runs wait for the gate."""
    gate = threading.Event()
    engine = FakeEngine(gate)
    async with AsyncExitStack() as stack:
        executor = stack.enter_context(ThreadPoolExecutor(1))
        stack.callback(gate.set)
        await stack.enter_async_context(runner(path, ort_engine, engine, executor))
        stack.callback(gate.set)
        pool = await stack.enter_async_context(connected(path, max_queue_steps))
        yield engine, pool, gate


async def test_deadline_ends_the_wait_for_a_slow_run(tmp_path: Path, ort_engine: OrtEngine) -> None:
    async with held_back(tmp_path / "r", ort_engine) as (_, pool, _gate):
        with pytest.raises(DeadlineExceededError):
            await pool.infer(inference([1.0], seconds=0.05))


async def test_caller_that_leaves_is_never_run(tmp_path: Path, ort_engine: OrtEngine) -> None:
    async with held_back(tmp_path / "r", ort_engine) as (engine, pool, gate):
        running = asyncio.create_task(pool.infer(inference([1.0])))
        await until(lambda: bool(engine.shapes))
        leaving = asyncio.create_task(pool.infer(inference([1.0] * 9)))
        await asyncio.sleep(0.01)
        leaving.cancel()
        await asyncio.wait([leaving])
        gate.set()
        with pytest.raises(EngineError):  # the fake knows no quantiles
            await running
        with pytest.raises(EngineError):
            await pool.infer(inference([1.0]))
    assert engine.shapes == [(1, 1), (1, 1)]


async def test_too_much_outstanding_work_is_refused_at_the_gateway(
    tmp_path: Path, ort_engine: OrtEngine
) -> None:
    async with held_back(tmp_path / "r", ort_engine, max_queue_steps=10) as (_, pool, _gate):
        waiting = asyncio.create_task(pool.infer(inference([1.0] * 8)))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await pool.infer(inference([1.0] * 8))
        waiting.cancel()


async def test_lost_runner_fails_what_waits_and_its_successor_serves(
    tmp_path: Path, ort_engine: OrtEngine
) -> None:
    path = tmp_path / "r"
    async with RunnerPool([path], silence_s=5, max_queue_steps=1000) as pool:
        gate = threading.Event()
        with ThreadPoolExecutor(1) as executor:
            async with runner(path, ort_engine, FakeEngine(gate), executor) as first:
                await until(lambda: pool.is_ready)
                waiting = asyncio.create_task(pool.infer(inference([1.0])))
                await asyncio.sleep(0.01)
                for connection in list(first._connections):
                    connection.close()
                with pytest.raises(ModelNotReadyError, match="lost"):
                    await waiting
                gate.set()
        async with runner(path, ort_engine):
            await until(lambda: pool.is_ready)
            assert "quantiles" in await pool.infer(inference([1.0]))


async def test_lost_connection_takes_no_more_calls() -> None:
    connection = RunnerConnection(asyncio.Event(), "r")
    connection.closed()
    with pytest.raises(ModelNotReadyError, match="was lost"):
        await connection.infer(inference([1.0]))
    with pytest.raises(ModelNotReadyError, match="was lost"):
        await connection.statistics(time.monotonic() + 10)


@asynccontextmanager
async def connected_to(*paths: Path) -> AsyncIterator[RunnerPool]:
    async with RunnerPool(paths, silence_s=5.0, max_queue_steps=10_000) as pool:
        yield pool


async def test_sequence_of_a_forecaster_equals_its_whole_history(
    tmp_path: Path, ort_engine: OrtEngine
) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    values = [float(n % 7 + 1) for n in range(60)]
    async with AsyncExitStack() as stack:
        for path in paths:
            await stack.enter_async_context(runner(path, ort_engine))
        pool = await stack.enter_async_context(connected_to(*paths))
        await until(lambda: len(pool._connections) == 2 and len(pool._live()) == 2)
        for name in range(4):
            for start, stop in ((0, 17), (17, 18), (18, 60)):
                part = SequencePart(name, start == 0, stop == 60, "key", "tiny")
                got = await pool.infer(replace(inference(values[start:stop]), sequence=part))
                want = ort_engine.run(inference(values[:stop]).inputs, ["quantiles"])
                np.testing.assert_allclose(got["quantiles"], want["quantiles"], rtol=1e-4)
                assert list(got) == ["quantiles"]
            ended = SequencePart(name, False, False, "key", "tiny")
            with pytest.raises(UnknownSequenceError):
                await pool.infer(replace(inference([1.0]), sequence=ended))


async def test_sequence_whose_runner_is_down_is_not_sent_to_another(
    tmp_path: Path, ort_engine: OrtEngine
) -> None:
    parts = [SequencePart(name, True, False, "", "tiny") for name in range(20)]
    async with (
        runner(tmp_path / "r", ort_engine),
        connected_to(tmp_path / "r", tmp_path / "none") as pool,
    ):
        await until(lambda: pool.is_ready)
        calls = [pool.infer(replace(inference([1.0]), sequence=part)) for part in parts]
        answers = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(answer) for answer in answers} == {dict, ModelNotReadyError}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
async def test_only_runners_with_models_of_their_own_have_to_be_heard_of(
    device: Device, tmp_path: Path, ort_engine: OrtEngine
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    async with (
        runner(first, ort_engine, device=device),
        RunnerPool([first, second], silence_s=5.0, max_queue_steps=1000) as pool,
    ):
        await until(lambda: pool.is_ready)
        assert pool.is_complete == (device == "cpu")
        async with runner(second, ort_engine, device=device):
            await until(lambda: len(pool._live()) == 2)
            assert pool.is_complete
        await until(lambda: len(pool._live()) == 1)
        assert pool.is_complete


async def test_most_rows_of_the_next_run_come_with_the_beat(
    tmp_path: Path, ort_engine: OrtEngine
) -> None:
    async with runner(tmp_path / "r", ort_engine) as server, connected(tmp_path / "r") as pool:
        before = pool.batch_size_cap(*KEY)
        server.beat()
        await until(lambda: pool.batch_size_cap(*KEY) is not None)
        known = pool.batch_size_cap(*KEY)
    assert (before, known) == (None, LIMITS.max_batch_size)


async def test_statistics_are_those_of_all_runners(tmp_path: Path, ort_engine: OrtEngine) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    async with AsyncExitStack() as stack:
        for path in paths:
            await stack.enter_async_context(runner(path, ort_engine))
        pool = RunnerPool(paths, silence_s=5.0, max_queue_steps=10_000)
        await stack.enter_async_context(pool)
        await until(lambda: len(pool._connections) == 2 and pool.is_ready)
        await asyncio.gather(*(pool.infer(inference([1.0] * 4)) for _ in range(6)))
        with pytest.raises(InvalidInputError):
            await pool.infer(inference([1.0], ("nonsense",)))
        (statistics,) = await pool.statistics(5.0)
    assert (statistics.model_name, statistics.model_version) == KEY
    assert (statistics.success.count, statistics.fail.count) == (6, 1)
    assert statistics.inference_count == 6
    rows = {rows: times.compute_infer.count for rows, times in statistics.batches.items()}
    assert sum(rows.values()) == statistics.execution_count


async def test_statistics_of_a_lost_runner_are_those_that_it_told_last(
    tmp_path: Path, ort_engine: OrtEngine
) -> None:
    path = tmp_path / "r"
    async with RunnerPool([path], silence_s=5.0, max_queue_steps=10_000) as pool:
        async with runner(path, ort_engine):
            await until(lambda: pool.is_ready)
            await pool.infer(inference([1.0] * 4))
            (told,) = await pool.statistics(5.0)
        await until(lambda: not pool.models())
        (kept,) = await pool.statistics(5.0)
    assert told.inference_count == 1
    assert kept == told


async def test_statistics_before_the_first_runner_are_empty(tmp_path: Path) -> None:
    async with RunnerPool([tmp_path / "r"], silence_s=5.0, max_queue_steps=10) as pool:
        assert await pool.statistics(5.0) == []


def publish(directory: Path, model: bytes, version: int) -> None:
    path = directory / "models" / "tiny" / str(version) / MODEL_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model)


async def test_loaded_version_takes_the_place_of_the_old_one(
    tmp_path: Path, ort_engine: OrtEngine
) -> None:
    publish(tmp_path, tiny_artifact(context_length=512, hidden_size=6), 5)
    async with runner(tmp_path / "r", ort_engine), connected(tmp_path / "r") as pool:
        await pool.change("load", "tiny")
        assert [(m.model_version, m.is_ready) for m in pool.models()] == [(5, True)]
        newest = await pool.infer(replace(inference([1.0, 2.0]), model_version=5))
        chosen_before = await pool.infer(inference([1.0, 2.0]))
    assert not np.array_equal(newest["quantiles"], chosen_before["quantiles"])


async def test_version_that_was_replaced_long_ago_asks_to_try_again(
    tmp_path: Path, ort_engine: OrtEngine
) -> None:
    publish(tmp_path, tiny_artifact(context_length=512, hidden_size=6), 5)
    async with runner(tmp_path / "r", ort_engine), connected(tmp_path / "r") as pool:
        await pool.change("load", "tiny")

        with pytest.raises(ModelNotReadyError, match="try again"):
            await _infer_until_refused(pool)


async def _infer_until_refused(pool: RunnerPool) -> None:
    async with asyncio.timeout(10):
        while True:
            await pool.infer(inference([1.0, 2.0]))


async def test_refused_version_leaves_the_old_one_serving(
    tmp_path: Path, ort_engine: OrtEngine
) -> None:
    publish(tmp_path, tiny_artifact()[:-1], 7)
    async with runner(tmp_path / "r", ort_engine), connected(tmp_path / "r") as pool:
        with pytest.raises(ModelRefusedError, match="tiny version 7 is refused: "):
            await pool.change("load", "tiny")
        listed = {m.model_version: m for m in pool.models()}
        assert (listed[1].is_ready, listed[7].is_ready) == (True, False)
        assert listed[7].reason
        await pool.infer(inference([1.0, 2.0]))


async def test_unloaded_model_is_listed_no_more(tmp_path: Path, ort_engine: OrtEngine) -> None:
    async with runner(tmp_path / "r", ort_engine), connected(tmp_path / "r") as pool:
        await pool.change("unload", "tiny")
        assert not pool.models()
        assert not pool.is_ready
        with pytest.raises(ModelNotFoundError):
            await pool.change("unload", "tiny")


@pytest.mark.parametrize("name", ["nobody", "..", "a/b", ""])
async def test_model_that_is_not_in_the_repository_is_not_found(
    tmp_path: Path, ort_engine: OrtEngine, name: str
) -> None:
    async with runner(tmp_path / "r", ort_engine), connected(tmp_path / "r") as pool:
        with pytest.raises(ModelNotFoundError):
            await pool.change("load", name)


async def test_changes_need_a_runner(tmp_path: Path) -> None:
    async with RunnerPool([tmp_path / "r"], silence_s=5.0, max_queue_steps=10) as pool:
        with pytest.raises(ModelNotReadyError):
            await pool.change("load", "tiny")


async def test_requests_go_to_a_runner_that_serves_their_version(
    tmp_path: Path, ort_engine: OrtEngine
) -> None:
    first, second = tmp_path / "first" / "r", tmp_path / "second" / "r"
    for path in (first, second):
        path.parent.mkdir()
    publish(first.parent, tiny_artifact(context_length=512, hidden_size=6), 5)
    async with (
        runner(first, ort_engine),
        runner(second, ort_engine),
        RunnerPool([first, second], silence_s=5.0, max_queue_steps=10_000) as pool,
    ):
        await until(lambda: len({id(m) for m in pool.models()}) == 2)
        with pytest.raises(ModelNotFoundError):  # the second repository does not hold it
            await pool.change("load", "tiny")
        assert {m.model_version for m in pool.models() if m.is_ready} == {1, 5}
        for version in (1, 5) * 10:
            await pool.infer(replace(inference([1.0, 2.0]), model_version=version))
