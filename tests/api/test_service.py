import asyncio
import json
from collections.abc import Sequence

import numpy as np
import pytest
from fastapi import FastAPI

from app.errors import EngineError, OverloadedError
from app.gateway.drain import Drain
from app.gateway.main import create_app
from app.interface import Interface
from app.settings import load_settings
from app.tensors import Tensors
from tests.api.raw import call
from tests.fakes import LEVELS, FakeRunners, forecaster, make_card
from tests.waiting import until

ONE = [json.dumps({"series": [{"target": [1, 2, 3]}]}).encode()]
MANY = [json.dumps({"series": [{"target": [1.0]}] * 100}).encode()]


class ConstantEngine:
    """Forecasts the same number everywhere."""

    def __init__(self, value: float) -> None:
        self.interface = Interface.from_card(make_card())
        self._value = value

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        shape = (len(inputs["past_target"]), 12, len(LEVELS))
        return {name: np.full(shape, self._value, np.float32) for name in outputs}


@pytest.fixture
def small_chunks(runners: FakeRunners) -> FastAPI:
    return create_app(load_settings(max_batch_size=1), runners, Drain())


async def test_caller_that_leaves_cancels_the_forecast(app: FastAPI, runners: FakeRunners) -> None:
    runners.gate.clear()
    left = asyncio.Event()
    waiting = asyncio.create_task(call(app, ONE, left=left))
    await runners.arrived.wait()
    left.set()
    answer = await waiting
    assert (runners.num_cancelled, answer.status) == (1, 0)


async def test_caller_that_leaves_cancels_every_chunk(
    small_chunks: FastAPI, runners: FakeRunners
) -> None:
    runners.gate.clear()
    left = asyncio.Event()
    waiting = asyncio.create_task(call(small_chunks, MANY, left=left))
    await until(lambda: runners.num_running > 1)
    left.set()
    await waiting
    assert runners.num_cancelled == len(runners.inferences) < 100


async def test_chunks_run_together_but_not_all(small_chunks: FastAPI, runners: FakeRunners) -> None:
    runners.gate.clear()
    waiting = asyncio.create_task(call(small_chunks, MANY))
    await until(lambda: runners.num_running > 1)
    runners.gate.set()
    answer = await waiting
    assert (answer.status, len(runners.inferences)) == (200, 100)
    assert 1 < runners.most_running <= 32


async def test_failing_chunk_cancels_the_others(
    small_chunks: FastAPI, runners: FakeRunners
) -> None:
    runners.gate.clear()
    waiting = asyncio.create_task(call(small_chunks, MANY))
    await until(lambda: runners.num_running > 1)
    runners.error = OverloadedError("the queue is full", retry_after_s=7)
    runners.gate.set()
    answer = await waiting
    assert (answer.status, answer.headers["retry-after"]) == (503, "7")
    assert len(runners.inferences) < 100
    assert runners.num_running == 0


async def test_deadline_header_shortens_the_wait(app: FastAPI, runners: FakeRunners) -> None:
    runners.gate.clear()
    answer = await call(app, ONE, {"x-request-timeout-ms": "30"})
    assert (answer.status, runners.num_running) == (504, 0)
    assert json.loads(answer.body)["type"] == "deadline-exceeded"


async def test_deadline_header_never_lengthens_the_wait(runners: FakeRunners) -> None:
    runners.gate.clear()
    app = create_app(load_settings(request_timeout_s=0.03), runners, Drain())
    assert (await call(app, ONE, {"x-request-timeout-ms": "60000"})).status == 504


async def test_deadline_goes_with_the_inference(app: FastAPI, runners: FakeRunners) -> None:
    await call(app, ONE, {"x-request-timeout-ms": "500"})
    await call(app, ONE)
    first, second = (inference.deadline for inference in runners.inferences)
    assert 28 < second - first < 30


async def test_engine_failure_tells_nothing_internal(app: FastAPI, runners: FakeRunners) -> None:
    runners.error = EngineError("node /layers.0/LSTM failed")
    answer = await call(app, ONE)
    assert (answer.status, b"LSTM" in answer.body) == (500, False)
    assert json.loads(answer.body)["type"] == "engine-error"


async def test_model_output_that_is_not_finite_is_never_sent() -> None:
    runners = FakeRunners(forecaster("monthly", 1, make_card()), engine=ConstantEngine(np.inf))
    answer = await call(create_app(load_settings(), runners, Drain()), ONE)
    assert (answer.status, json.loads(answer.body)["type"]) == (500, "model-output-invalid")


async def test_model_that_did_not_load_is_503_with_its_reason(app: FastAPI) -> None:
    answer = await call(app, ONE, path="/v1/models/broken/forecast")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert "not a gatecast artifact" in json.loads(answer.body)["detail"]


async def test_without_runners_every_model_is_503(app: FastAPI, runners: FakeRunners) -> None:
    runners.is_up = False
    answer = await call(app, ONE)
    assert (answer.status, json.loads(answer.body)["type"]) == (503, "model-not-ready")


async def test_hundred_callers_each_get_their_own_answer(
    app: FastAPI, runners: FakeRunners
) -> None:
    runners.gate.clear()
    bodies = [json.dumps({"series": [{"target": [n]}]}).encode() for n in range(100)]
    waiting = asyncio.gather(*(call(app, [body]) for body in bodies))
    await until(lambda: runners.num_running == 100)
    runners.gate.set()
    medians = [json.loads(a.body)["forecasts"][0]["quantiles"]["0.5"][0] for a in await waiting]
    assert medians == [n + 1.0 for n in range(100)]
