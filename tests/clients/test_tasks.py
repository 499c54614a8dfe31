"""The Python client against a real service of models that classify, regress and tag."""

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from app.gateway.task_routes import TASKS
from gatecast_client import AsyncClient, Client, InputSequence, ProblemError
from tests.e2e.service import Service, serving, write_model
from tests.tiny_sequence_model import tiny_sequence_model

pytestmark = pytest.mark.asyncio(loop_scope="module")

BY_NAME = InputSequence(item_id="b", features={"heat": [20, math.nan], "load": [None, 1]})
SEQUENCES: list[Any] = [[[None, 20], [1, math.nan]], BY_NAME, np.array([[1.5, 2]], np.float32), []]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    repository = tmp_path_factory.mktemp("tasks")
    for task in TASKS:
        write_model(repository, tiny_sequence_model(task), name=task)
    write_model(repository, tiny_sequence_model("tag", ("load",)), name="single")
    async with serving(repository) as service:
        yield service


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(service: Service) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(f"http://127.0.0.1:{service.port}") as client:
        yield client


async def test_classes_come_with_their_probabilities(client: AsyncClient) -> None:
    found = await client.classify("classify", SEQUENCES)
    first, second, third, fourth = found.predictions
    assert (found.model_name, found.model_version) == ("classify", 1)
    assert first.probabilities == second.probabilities != third.probabilities
    assert first.class_name == max(first.probabilities, key=lambda name: first.probabilities[name])
    assert (second.item_id, second.error) == ("b", None)
    assert fourth.error is not None
    assert (fourth.error.pointer, fourth.class_name) == ("/sequences/3/values", None)


async def test_values_come_by_target(client: AsyncClient) -> None:
    (one,) = (await client.regress("regress", [BY_NAME], model_version=1)).predictions
    assert (one.item_id, list(one.values), one.error) == ("b", ["cost", "wear"], None)


async def test_every_step_is_tagged(client: AsyncClient) -> None:
    sequences: list[Any] = [[1, None], [[1], [math.nan]]]
    flat, nested = (await client.tag("single", sequences)).predictions
    assert flat == nested
    assert len(flat.classes) == len(flat.probabilities["low"]) == 2


async def test_another_task_is_a_problem(client: AsyncClient) -> None:
    with pytest.raises(ProblemError, match="/v1/models/tag/tag") as caught:
        await client.classify("tag", [BY_NAME])
    assert caught.value.status == 409


async def test_blocking_client_gives_the_same(service: Service, client: AsyncClient) -> None:
    def ask() -> list[object]:
        with Client(f"http://127.0.0.1:{service.port}") as blocking:
            return [
                blocking.classify("classify", [BY_NAME]),
                blocking.regress("regress", [BY_NAME]),
                blocking.tag("tag", [BY_NAME]),
            ]

    assert await asyncio.to_thread(ask) == [
        await client.classify("classify", [BY_NAME]),
        await client.regress("regress", [BY_NAME]),
        await client.tag("tag", [BY_NAME]),
    ]
