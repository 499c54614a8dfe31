"""A real service of models that classify, regress and tag."""

import asyncio
import json
import re
import shlex
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from app.bulk.remote import open_remote
from app.errors import RemoteError
from app.gateway.task_routes import TASKS
from tests.e2e.client import Client
from tests.e2e.service import Service, serving, write_model
from tests.tiny_sequence_model import tiny_sequence_model

pytestmark = pytest.mark.asyncio(loop_scope="module")

RELATIVE_TOLERANCE = 1e-5
NUM_REQUESTS = 40


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    path = tmp_path_factory.mktemp("tasks")
    for task in TASKS:
        write_model(path / "models", tiny_sequence_model(task), name=task)
    async with serving(path / "models", jobs_directory=path / "jobs", access_log=False) as service:
        yield service


async def test_tasks_are_served_in_shared_batches(service: Service) -> None:
    random = np.random.default_rng(0)
    bodies = [
        {"sequences": [{"item_id": str(n), "values": random.normal(size=(length, 2)).tolist()}]}
        for n, length in enumerate(random.integers(1, 40, NUM_REQUESTS))
    ]
    for task in TASKS:
        together = await asyncio.gather(*(ask(service.port, task, body) for body in bodies))
        alone = [await ask(service.port, task, body) for body in bodies]
        for number, (got, want) in enumerate(zip(together, alone, strict=True)):
            assert got["item_id"] == str(number)
            np.testing.assert_allclose(
                numbers_of(got), numbers_of(want), rtol=RELATIVE_TOLERANCE, atol=1e-6
            )
    async with Client(service.port) as client:
        metrics = (await client.get("/metrics")).body.decode()
    labels = 'model_name="tag",model_version="1",outcome="tag"'
    assert f"gatecast_series_total{{{labels}}} {2 * NUM_REQUESTS}.0" in metrics
    runs = re.search(r'gatecast_batch_rows_count\{model_name="tag"\} (\S+)', metrics)
    assert runs is not None
    assert float(runs[1]) < 2 * NUM_REQUESTS


async def test_banner_names_the_tasks_and_a_request_that_works(service: Service) -> None:
    assert "model    tag version 1: LSTM, tag, 2 features, 3 classes" in service.banner
    words = shlex.split(service.banner.splitlines()[-1])
    path = re.sub(r"http://[^/]+", "", words[3])
    async with Client(service.port) as client:
        answer = await client.post(path, json.loads(words[-1]))
    assert path == "/v1/models/classify/classify"
    assert (answer.status, answer.json()["predictions"][0]["item_id"]) == (200, "example")


async def test_files_and_jobs_are_refused(service: Service) -> None:
    headers = {"content-type": "text/csv"}
    async with Client(service.port) as client:
        answer = await client.post("/v1/jobs?model_name=tag", b"target\n1\n", headers)
    assert (answer.status, answer.json()["type"]) == (409, "no-forecaster")
    with pytest.raises(RemoteError, match="tag makes no forecasts"):
        async with open_remote(f"http://127.0.0.1:{service.port}", "tag"):
            pass


async def ask(port: int, task: str, body: dict[str, Any]) -> dict[str, Any]:
    async with Client(port) as client:
        answer = await client.post(f"/v1/models/{task}/{task}", body)
    assert answer.status == 200, answer.body
    (prediction,) = answer.json()["predictions"]
    return dict(prediction)


def numbers_of(prediction: dict[str, Any]) -> list[Any]:
    return [*(prediction.get("probabilities") or prediction["values"]).values()]
