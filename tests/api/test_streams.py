"""Streams over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from app.errors import OverloadedError
from app.gateway.drain import Drain
from app.gateway.main import create_app, open_stream_store
from app.gateway.stream_store import StreamStore
from app.keys import create_key
from app.settings import Settings, load_settings
from tests.api.raw import FORECAST_PATH
from tests.fakes import FakeRunners, forecaster, make_card

STREAMS = "/v1/models/monthly/streams"
ONE = f"{STREAMS}/shop-17"
OBSERVATIONS = f"{ONE}/observations"


@pytest.fixture(params=["sqlite", "redis"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StreamStore]:
    place = str(tmp_path / "streams")
    if request.param == "redis":
        place = request.getfixturevalue("redis_server").url
    store = open_stream_store(load_settings(stream_store=place))
    yield store
    await store.close()


@pytest.fixture
def app(settings: Settings, runners: FakeRunners, drain: Drain, store: StreamStore) -> FastAPI:
    return create_app(settings, runners, drain, store)


async def create(client: httpx.AsyncClient, *target: Any, **fields: Any) -> httpx.Response:
    return await client.put(ONE, json={"target": target, **fields})


async def append(
    client: httpx.AsyncClient, step: int, *values: Any, **fields: Any
) -> httpx.Response:
    return await client.post(OBSERVATIONS, json={"step": step, "values": values, **fields})


async def native(client: httpx.AsyncClient, *target: Any, **fields: Any) -> Any:
    body = {"series": [{"target": target} | fields]}
    return (await client.post(FORECAST_PATH, json=body)).json()["forecasts"][0]


async def test_stream_forecasts_what_its_values_do(client: httpx.AsyncClient) -> None:
    made = await create(client, 1, None, 3)
    answers = [await append(client, 3, 4), await append(client, 4, None, 6)]
    read = await client.get(f"{ONE}/forecast")
    want = [await native(client, 1, None, 3, 4), await native(client, 1, None, 3, 4, None, 6)]
    assert (made.status_code, made.json()["step"], made.json()["num_kept"]) == (201, 3, 3)
    assert [answer.json()["step"] for answer in answers] == [4, 6]
    assert [answer.json()["quantiles"] for answer in answers] == [one["quantiles"] for one in want]
    assert read.json() == answers[-1].json()


async def test_same_observations_again_change_nothing(
    client: httpx.AsyncClient, runners: FakeRunners
) -> None:
    await create(client, 1, 2)
    first = await append(client, 2, 3)
    await append(client, 3, 4)
    num_runs = len(runners.inferences)
    again = await append(client, 2, 3)
    assert (again.status_code, again.content) == (200, first.content)
    assert len(runners.inferences) == num_runs
    assert (await client.get(ONE)).json()["step"] == 4


@pytest.mark.parametrize(
    ("step", "values", "fields", "detail"),
    [
        (4, [5], {}, "leaves a gap: the stream has 3 values"),
        (2, [9], {}, "other values were given at step 2"),
        (2, [3], {"horizon": 2}, "other values were given at step 2"),
        (1, [2], {}, "the next step is 3"),
    ],
)
async def test_what_does_not_follow_is_a_conflict(
    client: httpx.AsyncClient, step: int, values: list[Any], fields: dict[str, Any], detail: str
) -> None:
    await create(client, 1, 2)
    await append(client, 2, 3)
    answer = await append(client, step, *values, **fields)
    assert (answer.status_code, answer.json()["type"]) == (409, "stream-conflict")
    assert detail in answer.json()["detail"]
    assert (await client.get(ONE)).json()["step"] == 3


async def test_one_of_two_rivals_is_added(client: httpx.AsyncClient, runners: FakeRunners) -> None:
    await create(client, 1, 2)
    runners.gate.clear()
    calls = [asyncio.create_task(append(client, 2, value)) for value in (3, 3, 4)]
    while runners.num_running < 3:
        await asyncio.sleep(0.002)
    runners.gate.set()
    answers = await asyncio.gather(*calls)
    assert sorted(answer.status_code for answer in answers) in ([200, 200, 409], [200, 409, 409])
    assert (await client.get(ONE)).json()["step"] == 3
    added = {answer.content for answer in answers if answer.status_code == 200}
    assert added == {(await client.get(f"{ONE}/forecast")).content}


async def test_failed_forecast_adds_nothing(
    client: httpx.AsyncClient, runners: FakeRunners
) -> None:
    await create(client, 1, 2)
    runners.error = OverloadedError("full")
    assert (await append(client, 2, 3)).status_code == 503
    runners.error = None
    assert (await append(client, 2, 3)).status_code == 200


async def test_long_stream_loses_an_eighth_of_its_context_at_once() -> None:
    runners = FakeRunners(forecaster("monthly", 1, make_card(context_length=16)))
    transport = httpx.ASGITransport(create_app(load_settings(), runners, Drain()))
    async with httpx.AsyncClient(transport=transport, base_url="http://gatecast") as client:
        await create(client, *range(100))
        for step in range(100, 104):
            await append(client, step, step)
        description = (await client.get(ONE)).json()
    lengths = [i.inputs["past_target"].shape[1] for i in runners.inferences]
    first = [int(i.inputs["past_target"][0, 0]) for i in runners.inferences]
    assert (lengths, first) == ([15, 16, 15, 16], [86, 86, 88, 88])
    assert (description["step"], description["num_kept"]) == (104, 16)
    newest = runners.inferences[-1].inputs["past_target"][0, -1]
    np.testing.assert_array_equal(newest, 103)


async def test_time_stamps_are_counted_from_the_first_value() -> None:
    runners = FakeRunners(forecaster("monthly", 1, make_card(context_length=16)))
    transport = httpx.ASGITransport(create_app(load_settings(), runners, Drain()))
    async with httpx.AsyncClient(transport=transport, base_url="http://gatecast") as client:
        await create(client, *range(26), start="2024-01-30")
        answer = await append(client, 26, 1, horizon=3)
    assert answer.json()["timestamps"] == ["2026-04-30", "2026-05-30", "2026-06-30"]


async def test_horizon_and_levels_can_be_chosen(client: httpx.AsyncClient) -> None:
    await create(client, 1, 2)
    added = (await append(client, 2, 3, horizon=2, quantile_levels=[0.5])).json()
    read = await client.get(f"{ONE}/forecast?horizon=2&quantile_levels=0.5")
    assert (list(added["quantiles"]), added["horizon"]) == (["0.5"], 2)
    assert read.json() == added


async def test_put_begins_anew(client: httpx.AsyncClient) -> None:
    await create(client, 1, 2)
    await append(client, 2, 3)
    again = await create(client, 5, 6)
    assert (again.status_code, again.json()["step"]) == (200, 2)
    assert (await append(client, 2, 3)).json()["quantiles"] == (await native(client, 5, 6, 3))[
        "quantiles"
    ]


async def test_streams_are_listed_and_deleted(client: httpx.AsyncClient) -> None:
    for name in ("b", "a", "c"):
        await client.put(f"{STREAMS}/{name}", json={"target": [1]})
    page = (await client.get(f"{STREAMS}?limit=2")).json()
    rest = (await client.get(f"{STREAMS}?after={page['next_after']}")).json()
    names = [[one["stream_id"] for one in listed["streams"]] for listed in (page, rest)]
    assert names == [["a", "b"], ["c"]]
    assert "next_after" not in rest
    assert (await client.delete(f"{STREAMS}/a")).status_code == 204
    assert (await client.get(f"{STREAMS}/a")).status_code == 404


async def test_durable_store_knows_what_never_was(tmp_path: Path, runners: FakeRunners) -> None:
    settings = load_settings(stream_store=str(tmp_path / "streams.sqlite3"))
    for _ in range(2):  # the second application finds what the first one left
        transport = httpx.ASGITransport(create_app(settings, runners, Drain()))
        async with httpx.AsyncClient(transport=transport, base_url="http://gatecast") as client:
            assert (await client.get(ONE)).json()["type"] == "stream-not-found"
            assert (await append(client, 0, 1)).status_code == 404
            await client.put(f"{STREAMS}/kept", json={"target": [1]})
            assert (await client.get(f"{STREAMS}/kept")).status_code == 200


async def test_keys_have_streams_of_their_own(tmp_path: Path, runners: FakeRunners) -> None:
    keys = [create_key(), create_key()]
    (tmp_path / "keys").write_text("".join(f"{key.line}\n" for key in keys))
    settings = load_settings(api_keys_file=tmp_path / "keys", max_streams=1)
    transport = httpx.ASGITransport(create_app(settings, runners, Drain()))
    async with httpx.AsyncClient(transport=transport, base_url="http://gatecast") as client:
        mine, other = ({"x-api-key": key.text} for key in keys)
        await client.put(ONE, json={"target": [1]}, headers=mine)
        assert (await client.get(ONE, headers=other)).status_code == 410
        assert (await client.get(STREAMS, headers=other)).json() == {"streams": []}
        refused = await client.put(f"{STREAMS}/second", json={"target": [1]}, headers=mine)
        assert (refused.status_code, refused.json()["type"]) == (429, "too-many-streams")


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        (ONE, {"target": []}, "/target"),
        (ONE, {"target": [None]}, "/target"),
        (ONE, {"target": [1, 1e39]}, "/target/1"),
        (ONE, {"target": [1], "start": "soon"}, "/start"),
        (ONE, {"target": [1], "freq": "D"}, "/freq"),
        (ONE, {"target": [1], "colour": 1}, "/colour"),
        (OBSERVATIONS, {"step": 2, "values": []}, "/values"),
        (OBSERVATIONS, {"step": 2, "values": [1, -1e39]}, "/values/1"),
        (OBSERVATIONS, {"step": -1, "values": [1]}, "/step"),
        (OBSERVATIONS, {"step": 2.5, "values": [1]}, "/step"),
        (OBSERVATIONS, {"step": 2, "values": [1], "horizon": 99}, "/horizon"),
        (OBSERVATIONS, {"values": [1]}, ""),
    ],
)
async def test_wrong_bodies_are_refused_with_their_place(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], pointer: str
) -> None:
    await create(client, 1, 2)
    answer = await client.request("PUT" if path == ONE else "POST", path, json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert (await client.get(ONE)).json()["step"] == 2


async def test_covariates_that_the_model_does_not_take_are_refused(
    client: httpx.AsyncClient,
) -> None:
    answer = await create(client, 1, past_covariates={"price": [1]})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/past_covariates"


async def test_stream_of_other_covariates_than_the_model_takes_now_begins_anew(
    client: httpx.AsyncClient, runners: FakeRunners
) -> None:
    await create(client, 1, 2)
    runners.versions[:2] = [forecaster("monthly", 1, make_card(static_covariates=("size",)))]
    answers = [await append(client, 2, 3), await client.get(f"{ONE}/forecast")]
    assert [answer.status_code for answer in answers] == [422, 422]
    assert "PUT it with its history" in answers[0].json()["detail"]
    again = await create(client, 1, 2, static_covariates={"size": 1})
    assert again.status_code == 200
