import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from tests.api.raw import FORECAST_PATH, call

ONE = b'{"series": [{"target": [1, 2, 3]}]}'
THROUGH_FASTAPI = {"content-type": "application/json; charset=utf-8"}
VERSIONS = "/v1/models/monthly/versions"


@pytest.mark.parametrize("path", [FORECAST_PATH, f"{VERSIONS}/1/forecast"])
async def test_answer_is_that_of_the_documented_route(app: FastAPI, path: str) -> None:
    direct = await call(app, [ONE], path=path)
    documented = await call(app, [ONE], THROUGH_FASTAPI, path=path)
    assert (direct.status, direct.body) == (200, documented.body)


@pytest.mark.parametrize("body", [b'{"series": []}', b"{", b""])
async def test_refusal_is_that_of_the_documented_route(app: FastAPI, body: bytes) -> None:
    answers = [
        await call(app, [body], headers | {"x-request-id": "r1"})
        for headers in ({}, THROUGH_FASTAPI)
    ]
    assert answers[0].status in {400, 422}
    assert (answers[0].status, answers[0].body) == (answers[1].status, answers[1].body)


@pytest.mark.parametrize("version", ["0", "-1", "two", "1.5", "9" * 19])
async def test_odd_versions_are_not_found(client: AsyncClient, version: str) -> None:
    for path in (f"{VERSIONS}/{version}/forecast", f"/v2/models/monthly/versions/{version}/infer"):
        answer = await client.post(path, content=ONE, headers={"content-type": "application/json"})
        assert answer.status_code == 404


@pytest.mark.parametrize("milliseconds", ["0", "-1", "1.5", "soon", "86400001"])
async def test_odd_timeouts_are_refused(client: AsyncClient, milliseconds: str) -> None:
    headers = {"content-type": "application/json", "x-request-timeout-ms": milliseconds}
    answer = await client.post(FORECAST_PATH, content=ONE, headers=headers)
    assert answer.status_code == 422


async def test_long_paths_find_their_route(client: AsyncClient) -> None:
    answer = await client.post(f"/v1/models/{'m' * 300}/forecast", content=ONE)
    assert answer.status_code == 404
