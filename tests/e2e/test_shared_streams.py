"""Streams that two real services share: racing callers, a killed service, a Redis away."""

import asyncio
import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from tests.e2e.client import Client
from tests.e2e.service import Service, serving
from tests.e2e.traffic import path_of
from tests.redis_server import RedisServer

STARTER = Path(__file__).parents[2] / "model_repository"
RELATIVE_TOLERANCE = 1e-5
STREAM = "/v1/models/monthly/streams/one"
JSON = {"content-type": "application/json"}
NUM_KEPT = 20
NUM_STEPS = 15


async def append(client: Client, step: int, value: float) -> Any:
    return await client.post(f"{STREAM}/observations", {"step": step, "values": [value]})


async def race(client: Client, offset: float, won: dict[int, float]) -> None:
    """Add a value of one's own at each step, as soon as the step may be one's turn."""
    step = NUM_KEPT
    while step < NUM_KEPT + NUM_STEPS:
        answer = await append(client, step, step + offset)
        assert answer.status in {200, 409}, answer.body
        if answer.status == 200:
            assert step not in won
            won[step] = step + offset
        step += 1


async def kill(service: Service) -> None:
    """End all processes of a service as a machine does that loses its power."""
    children = service.gateways + service.runners
    await service.stop(signal.SIGKILL)
    for child in children:
        with suppress(ProcessLookupError):  # it may have seen that its supervisor is gone
            os.kill(child, signal.SIGKILL)


async def test_services_share_streams_and_outlive_one_another_and_redis(
    own_redis: RedisServer,
) -> None:
    settings: dict[str, object] = {"stream_store": own_redis.url, "watchdog_s": 60}
    history = [float(value) for value in range(1, NUM_KEPT + 1)]
    async with (
        serving(STARTER, **settings) as first,
        serving(STARTER, **settings) as second,
        Client(second.port) as there,
    ):
        won: dict[int, float] = {}
        async with Client(first.port) as here, Client(first.port) as beside:
            made = json.dumps({"target": history}).encode()
            assert (await here.send("PUT", STREAM, made, JSON)).status == 201
            rivals = (here, 0.25), (beside, 0.5), (there, 0.75)
            await asyncio.gather(*(race(client, offset, won) for client, offset in rivals))
            history += [won[step] for step in sorted(won)]
            last_step = NUM_KEPT + NUM_STEPS - 1
            last = await append(here, last_step, won[last_step])
            assert last.status == 200
        await kill(first)
        assert (await append(there, last_step, won[last_step])).body == last.body
        own_redis.stop()
        away = await append(there, last_step + 1, 50)
        assert (away.status, away.json()["type"]) == (503, "stream-store")
        assert int(away.headers["retry-after"]) >= 1
        own_redis.start()
        answer = await append(there, last_step + 1, 50)
        assert answer.status == 200, answer.body
        again = {"series": [{"target": [*history, 50]}]}
        full = (await there.post(path_of("monthly"), again, {"cache-control": "no-store"})).json()
    for level, values in full["forecasts"][0]["quantiles"].items():
        np.testing.assert_allclose(
            answer.json()["quantiles"][level], values, rtol=RELATIVE_TOLERANCE
        )
