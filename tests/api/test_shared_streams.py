"""Streams over HTTP that two services share through one Redis."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from app.gateway.drain import Drain
from app.gateway.main import create_app, open_stream_store
from app.keys import NewKey, create_key
from app.settings import Settings, load_settings
from tests.fakes import FakeRunners
from tests.redis_server import RedisServer
from tests.stream_stores import opened

STREAMS = "/v1/models/monthly/streams"
ONE = f"{STREAMS}/shop-17"


@pytest.fixture
def keys(tmp_path: Path) -> list[NewKey]:
    keys = [create_key(), create_key()]
    (tmp_path / "keys").write_text("".join(f"{key.line}\n" for key in keys))
    return keys


@pytest.fixture
def settings(own_redis: RedisServer, tmp_path: Path) -> Settings:
    return load_settings(stream_store=own_redis.url, api_keys_file=tmp_path / "keys", max_streams=3)


@pytest.fixture
async def clients(
    settings: Settings, runners: FakeRunners, keys: list[NewKey]
) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Callers with the first key, each of another service."""
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(2):
            store = await stack.enter_async_context(opened(open_stream_store(settings)))
            client = httpx.AsyncClient(
                transport=httpx.ASGITransport(create_app(settings, runners, Drain(), store)),
                base_url="http://gatecast",
                headers={"x-api-key": keys[0].text},
            )
            clients.append(await stack.enter_async_context(client))
        yield clients


async def append(client: httpx.AsyncClient, step: int, value: float) -> httpx.Response:
    return await client.post(f"{ONE}/observations", json={"step": step, "values": [value]})


async def test_stream_goes_on_at_another_service(clients: list[httpx.AsyncClient]) -> None:
    first, second = clients
    made = await first.put(ONE, json={"target": [1, 2], "start": "2024-01-31"})
    added = await append(second, 2, 3)
    assert (made.status_code, added.status_code) == (201, 200)
    assert (await append(first, 2, 3)).content == added.content
    assert (await first.get(f"{ONE}/forecast")).content == added.content
    listed = [(await client.get(STREAMS)).json()["streams"] for client in clients]
    assert [one[0]["step"] for one in listed] == [3, 3]
    assert (await second.delete(ONE)).status_code == 204
    assert (await first.get(ONE)).status_code == 404


async def test_rivals_at_two_services_leave_one_history(clients: list[httpx.AsyncClient]) -> None:
    await clients[0].put(ONE, json={"target": [1]})
    history = [1.0]
    for step in range(1, 15):
        values = [float(10 * step + rival) for rival in range(6)]
        calls = [append(clients[rival % 2], step, value) for rival, value in enumerate(values)]
        answers = await asyncio.gather(*calls)
        won = [value for value, one in zip(values, answers, strict=True) if one.is_success]
        assert len(won) == 1
        assert {one.status_code for one in answers} == {200, 409}
        history += won
    read = (await clients[1].get(f"{ONE}/forecast")).json()
    body = {"series": [{"target": history}]}
    native = (await clients[0].post("/v1/models/monthly/forecast", json=body)).json()
    assert read["step"] == 15
    assert read["quantiles"] == native["forecasts"][0]["quantiles"]


async def test_same_observations_at_two_services_count_once(
    clients: list[httpx.AsyncClient],
) -> None:
    await clients[0].put(ONE, json={"target": [1]})
    for step in range(1, 10):
        answers = await asyncio.gather(*(append(one, step, 5) for one in clients * 3))
        assert {one.status_code for one in answers} == {200}
        assert len({one.content for one in answers}) == 1
    assert (await clients[0].get(ONE)).json()["step"] == 10


async def test_keys_are_apart_and_counted_over_services(
    clients: list[httpx.AsyncClient], keys: list[NewKey]
) -> None:
    other = {"x-api-key": keys[1].text}
    await clients[0].put(ONE, json={"target": [1]})
    assert (await clients[1].get(ONE, headers=other)).status_code == 404
    assert (await clients[1].get(STREAMS, headers=other)).json() == {"streams": []}
    assert (await clients[1].delete(ONE, headers=other)).status_code == 404
    calls = [clients[n % 2].put(f"{STREAMS}/{n}", json={"target": [1]}) for n in range(8)]
    statuses = sorted(one.status_code for one in await asyncio.gather(*calls))
    assert statuses == [201] * 2 + [429] * 6
    made = await clients[0].put(ONE, json={"target": [7]}, headers=other)
    assert made.status_code == 201
    assert (await clients[1].get(ONE)).json()["step"] == 1


async def test_redis_that_is_away_is_no_lost_stream(
    clients: list[httpx.AsyncClient], own_redis: RedisServer
) -> None:
    first, second = clients
    await first.put(ONE, json={"target": [1, 2]})
    added = await append(first, 2, 3)
    own_redis.stop()
    body = {"target": [9]}
    refused = [
        await append(second, 3, 4), await append(first, 2, 3), await first.put(ONE, json=body),
        await second.get(ONE), await first.get(f"{ONE}/forecast"), await second.get(STREAMS),
        await first.delete(ONE),
    ]  # fmt: skip
    assert {answer.status_code for answer in refused} == {503}
    assert {answer.json()["type"] for answer in refused} == {"stream-store"}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert str(own_redis.port) not in "".join(answer.text for answer in refused)
    series = {"series": [{"target": [1]}]}
    assert (await first.post("/v1/models/monthly/forecast", json=series)).status_code == 200
    own_redis.start()
    assert (await append(second, 2, 3)).content == added.content
    assert (await append(first, 3, 4)).json()["step"] == 4
