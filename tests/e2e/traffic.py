"""Traffic for a real service, and an exact account of what becomes of it."""

import asyncio
import math
import random
import time
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.e2e.client import Client, LostRequestError
from tests.e2e.service import Service
from tests.waiting import until

BODY = {"series": [{"target": [float(n % 12 + 1) for n in range(120)]}]}


def path_of(model_name: str) -> str:
    return f"/v1/models/{model_name}/forecast"


def make_requests(count: int) -> list[dict[str, Any]]:
    """Series of 8 to 400 steps, some with gaps; ``item_id`` and level tell them apart."""
    generator = random.Random(0)
    requests = []
    for number in range(count):
        level = 10.0 ** generator.uniform(-1, 5)
        target: list[float | None] = [
            level * (1.5 + math.sin(step / 2) + 0.1 * generator.random())
            for step in range(generator.randint(8, 400))
        ]
        if generator.random() < 0.3:
            target[generator.randrange(len(target))] = None
        requests.append({"series": [{"item_id": str(number), "target": target}]})
    return requests


async def forecast_all(
    service: Service, model_name: str, requests: list[dict[str, Any]], *, num_clients: int
) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = [{} for _ in requests]
    numbers = iter(range(len(requests)))

    async def work() -> None:
        async with Client(service.port) as client:
            for number in numbers:
                answer = await client.post(path_of(model_name), requests[number])
                assert answer.status == 200, answer.body
                answers[number] = answer.json()

    await asyncio.gather(*(work() for _ in range(num_clients)))
    return answers


def quantiles_of(answer: dict[str, Any]) -> NDArray[np.float64]:
    return np.array(list(answer["forecasts"][0]["quantiles"].values()))


class Load:
    """Keep-alive clients that send one request after the other and count what becomes of each."""

    def __init__(self, service: Service, model_name: str, num_clients: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self.slowest_s = 0.0
        self._service = service
        self._path = path_of(model_name)
        self._num_clients = num_clients
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self._tasks = [asyncio.create_task(self._call()) for _ in range(self._num_clients)]
        await self.wait_for_answers(self._num_clients)

    async def wait_for_answers(self, count: int) -> None:
        """Return once more than ``count`` requests were answered 200."""
        await until(lambda: self.outcomes["200"] > count)

    async def finish(self) -> None:
        """Wait until every client has found the service gone."""
        await asyncio.wait_for(asyncio.gather(*self._tasks), 40)

    async def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _call(self) -> None:
        async with Client(self._service.port) as client:
            while True:
                started = time.monotonic()
                try:
                    answer = await client.post(self._path, BODY)
                except LostRequestError:
                    self.outcomes["lost"] += 1
                    continue
                except OSError:  # nobody listens any more
                    self.outcomes["refused"] += 1
                    return
                self.slowest_s = max(self.slowest_s, time.monotonic() - started)
                self.outcomes[str(answer.status)] += 1
                if answer.status == 503:
                    assert "retry-after" in answer.headers
                    await asyncio.sleep(0.05)
