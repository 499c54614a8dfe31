"""Streams on a real service: they outlive it, and cost what is new."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from tests.e2e.client import Client
from tests.e2e.service import Service, serving
from tests.e2e.traffic import path_of

RELATIVE_TOLERANCE = 1e-5
STREAM = "/v1/models/tiny/streams/one"
VALUES = np.random.default_rng(3).gamma(5, 20, 60).round(2).tolist()
NO_STORE = {"cache-control": "no-store"}


async def append(client: Client, step: int) -> dict[str, Any]:
    answer = await client.post(f"{STREAM}/observations", {"step": step, "values": [VALUES[step]]})
    assert answer.status == 200, answer.body
    content: dict[str, Any] = answer.json()
    return content


async def check(client: Client, answer: dict[str, Any], steps: int) -> None:
    body = {"series": [{"target": VALUES[:steps]}]}
    full = (await client.post(path_of("tiny"), body, NO_STORE)).json()["forecasts"][0]
    for level, values in full["quantiles"].items():
        np.testing.assert_allclose(answer["quantiles"][level], values, rtol=RELATIVE_TOLERANCE)


async def saved_steps(service: Service) -> float:
    async with Client(service.port) as client:
        text = (await client.get("/metrics")).body.decode()
    found = re.search(r"^gatecast_state_cache_saved_steps_total{.*} (.*)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def test_stream_outlives_its_service(tiny_repository: Path, tmp_path: Path) -> None:
    settings: dict[str, object] = {"gateways": 2, "stream_store": tmp_path / "s", "watchdog_s": 60}
    async with serving(tiny_repository, **settings) as service, Client(service.port) as client:
        made = await client.send(
            "PUT", STREAM, b'{"target": %s}' % str(VALUES[:40]).encode(),
            {"content-type": "application/json"},
        )  # fmt: skip
        assert made.status == 201
        for step in range(40, 50):
            await check(client, await append(client, step), step + 1)
        last = await append(client, 49)
        assert await saved_steps(service) >= sum(range(41, 50))
    async with serving(tiny_repository, **settings) as service, Client(service.port) as client:
        assert await append(client, 49) == last
        await check(client, await append(client, 50), 51)
