import json
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from app.gateway.drain import Drain
from app.gateway.main import create_app
from app.settings import load_settings
from tests.api.raw import FORECAST_PATH, call
from tests.fakes import FakeRunners

VALUE = "9177.25"


def one_series(target: str) -> str:
    return f'{{"series": [{{"target": [1]}}, {{"target": {target}}}]}}'


STRUCTURAL = {
    "no fields": ("{}", 422, "", "series"),
    "no object": ("[1]", 422, "", "object"),
    "no series": ('{"series": []}', 422, "/series", ">= 1"),
    "series is null": ('{"series": null}', 422, "/series", "array"),
    "unknown field": ('{"series": [{"target": [1]}], "h": 3}', 422, "/h", "unknown field h"),
    "unknown field of a series": (
        '{"series": [{"target": [1], "a/b~c": 3}]}',
        422,
        "/series/0/a~1b~0c",
        "unknown field a/b~c",
    ),
    "no target": ('{"series": [{}]}', 422, "/series/0", "target"),
    "string": (one_series(f'[1, "{VALUE}"]'), 422, "/series/1/target/1", "number or null"),
    "boolean": (one_series("[1, 2, true]"), 422, "/series/1/target/2", "number or null"),
    "nested": (one_series("[[1]]"), 422, "/series/1/target/0", "number or null"),
    "NaN": (one_series("[1, 2, NaN, 4]"), 422, "/series/1/target/2", "null"),
    "Infinity": (one_series("[Infinity]"), 422, "/series/1/target/0", "null"),
    "minus Infinity": (one_series("[0, -Infinity]"), 422, "/series/1/target/1", "null"),
    "1e400": (one_series("[0, 1e400]"), 422, "/series/1/target/1", "1e+30"),
    "5000 digits": (one_series(f"[{'9' * 5000}]"), 422, "/series/1/target/0", "1e+30"),
    "string covariate": (
        '{"series": [{"target": [1], "past_covariates": {"x": [1], "y/z": [1, "2"]}}]}',
        422,
        "/series/0/past_covariates/y~1z/1",
        "number or null",
    ),
    "NaN covariate": (
        '{"series": [{"target": [1], "static_covariates": {"x": 1, "y": NaN}}]}',
        422,
        "/series/0/static_covariates/y",
        "null",
    ),
    "number as item_id": (
        '{"series": [{"target": [1], "item_id": 5}]}',
        422,
        "/series/0/item_id",
        "string",
    ),
    "horizon 0": ('{"series": [{"target": [1]}], "horizon": 0}', 422, "/horizon", ">= 1"),
    "horizon too long": (
        '{"series": [{"target": [1]}], "horizon": 25}',
        422,
        "/horizon",
        "between 1 and 24",
    ),
    "horizon of a half": (
        '{"series": [{"target": [1]}], "horizon": 1.5}',
        422,
        "/horizon",
        "multiple of 1",
    ),
    "huge horizon": (
        '{"series": [{"target": [1]}], "horizon": 1e300}',
        422,
        "/horizon",
        "between 1 and 24",
    ),
    "200 levels": (
        json.dumps({"series": [{"target": [1]}], "quantile_levels": [0.5] * 200}),
        422,
        "/quantile_levels",
        "<= 99",
    ),
    "level twice": (
        '{"series": [{"target": [1]}], "quantile_levels": [0.2, 0.5, 0.5]}',
        422,
        "/quantile_levels/2",
        "ascend",
    ),
    "level outside": (
        '{"series": [{"target": [1]}], "quantile_levels": [0.5, 0.95]}',
        422,
        "/quantile_levels/1",
        "0.1 and 0.9",
    ),
    "level 1": (
        '{"series": [{"target": [1]}], "quantile_levels": [1]}',
        422,
        "/quantile_levels/0",
        "< 1",
    ),
    "other freq": ('{"series": [{"target": [1]}], "freq": "D"}', 422, "/freq", "must be M"),
    "no freq at all": ('{"series": [{"target": [1]}], "freq": "soon"}', 422, "/freq", "15min"),
    "too many series": (
        json.dumps({"series": [{"target": [1]}] * 1001}),
        422,
        "/series",
        "at most 1000",
    ),
}


@pytest.mark.parametrize("case", STRUCTURAL.values(), ids=STRUCTURAL)
async def test_fault_of_the_request_is_pointed_to(
    client: AsyncClient, case: tuple[str, int, str, str]
) -> None:
    body, status, pointer, text = case
    answer = await client.post(FORECAST_PATH, content=body, headers=JSON)
    problem = answer.json()
    assert answer.status_code == problem["status"] == status
    assert problem["errors"][0]["pointer"] == pointer
    assert text in problem["detail"]
    assert VALUE not in answer.text


MALFORMED = {
    "empty": (b"", "empty"),
    "blank": (b" \n", "empty"),
    "cut off": (b'{"series": [{"target": [1, 2', "cut off"),
    "cut off string": (b'{"series": [{"item_id": "\\ud800"}]}', "cut off"),
    "trailing": (b'{"series": [{"target": [1]}]} x', "byte"),
    "leading zero": (b'{"series": [{"target": [01]}]}', "byte"),
    "not UTF-8": (b'{"series": [{"target": [1], "item_id": "\xff"}]}', "UTF-8"),
    "deep arrays": (b'{"series": ' + b"[" * 100_000, "32 levels"),
    "deep objects": (b'{"a": ' * 100_000, "32 levels"),
}


@pytest.mark.parametrize("case", MALFORMED.values(), ids=MALFORMED)
async def test_body_that_can_not_be_read_is_400(
    client: AsyncClient, case: tuple[bytes, str]
) -> None:
    body, text = case
    answer = await client.post(FORECAST_PATH, content=body, headers=JSON)
    assert (answer.status_code, answer.json()["type"]) == (400, "malformed-body")
    assert text in answer.json()["detail"]


SINGLE: dict[str, tuple[dict[str, Any], str, str]] = {
    "empty": ({"target": []}, "/target", "at least 1 value"),
    "all null": ({"target": [None, None]}, "/target", "not null"),
    "null in context": ({"target": [1] + [None] * 48}, "/target", "last 48"),
    "3.4e39": ({"target": [1, 2, -3.4e39]}, "/target/2", "1e+30"),
    "bad start": ({"target": [1], "start": "soon"}, "/start", "ISO 8601"),
    "start too late": ({"target": [1], "start": "9999-06-01"}, "/start", "9999"),
    "unknown covariate": (
        {"target": [1], "past_covariates": {"x": [1]}},
        "/past_covariates",
        "nothing",
    ),
}


@pytest.mark.parametrize("case", SINGLE.values(), ids=SINGLE)
async def test_bad_series_among_good_ones_is_refused_in_its_place(
    client: AsyncClient, case: tuple[dict[str, Any], str, str]
) -> None:
    series, place, text = case
    good = {"target": [1, 2, 3]}
    body = {"series": [good, series | {"item_id": "bad"}, good]}
    answer = await client.post(FORECAST_PATH, json=body)
    first, second, third = answer.json()["forecasts"]
    assert answer.status_code == 200
    assert first == third
    assert (second["item_id"], second["error"]["type"]) == ("bad", "invalid-input")
    assert second["error"]["pointer"] == f"/series/1{place}"
    assert text in second["error"]["detail"]


COVARIATES: dict[str, tuple[dict[str, Any], str, str]] = {
    "past too short": ({"past_covariates": {"price": [1]}}, "/past_covariates/price", "2 values"),
    "past missing": ({"past_covariates": {}}, "/past_covariates", "exactly price"),
    "future too long": (
        {"future_covariates": {"holiday": [0] * 14, "promo/week": [0] * 15}},
        "/future_covariates/promo~1week",
        "14 values",
    ),
    "past too large": (
        {"past_covariates": {"price": [1, 1e39]}},
        "/past_covariates/price/1",
        "1e+30",
    ),
    "static too large": (
        {"static_covariates": {"size": 1e39}},
        "/static_covariates/size",
        "1e+30",
    ),
}


@pytest.mark.parametrize("case", COVARIATES.values(), ids=COVARIATES)
async def test_wrong_covariates_are_pointed_to(
    client: AsyncClient, case: tuple[dict[str, Any], str, str]
) -> None:
    changes, place, text = case
    good = {
        "target": [1, 2],
        "past_covariates": {"price": [1, 2]},
        "future_covariates": {"holiday": [0] * 14, "promo/week": [0] * 14},
        "static_covariates": {"size": 1},
    }
    answer = await client.post("/v1/models/shop/forecast", json={"series": [good, good | changes]})
    error = answer.json()["forecasts"][1]["error"]
    assert error["pointer"] == f"/series/1{place}"
    assert text in error["detail"]


async def test_start_without_any_freq_is_refused(client: AsyncClient) -> None:
    body = {"series": [{"target": [1], "start": "2024-01-01"}]}
    answer = await client.post("/v1/models/free/forecast", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/series/0/start")


async def test_request_of_bad_series_only_is_422_with_all_pointers(client: AsyncClient) -> None:
    body = {"series": [{"target": []}, {"target": [None]}]}
    answer = await client.post(FORECAST_PATH, json=body)
    pointers = [error["pointer"] for error in answer.json()["errors"]]
    assert (answer.status_code, answer.json()["type"]) == (422, "invalid-series")
    assert pointers == ["/series/0/target", "/series/1/target"]


async def test_bad_series_beyond_a_hundred_are_not_all_listed(client: AsyncClient) -> None:
    answer = await client.post(FORECAST_PATH, json={"series": [{"target": []}] * 300})
    assert len(answer.json()["errors"]) == 100
    assert "300" in answer.json()["detail"]


async def test_too_many_steps_are_refused(runners: FakeRunners) -> None:
    app = create_app(load_settings(max_steps=10), runners, Drain())
    answer = await call(app, [b'{"series": [{"target": [1,2,3,4,5,6]}, {"target": [1,2,3,4,5]}]}'])
    assert (answer.status, b"at most 10 values" in answer.body) == (422, True)


async def test_field_name_of_a_megabyte_is_not_echoed(client: AsyncClient) -> None:
    body = f'{{"series": [{{"target": [1], "{"x" * 1_000_000}": 1}}]}}'
    answer = await client.post(FORECAST_PATH, content=body, headers=JSON)
    assert (answer.status_code, len(answer.content) < 1000) == (422, True)


@pytest.mark.parametrize("given", ["0", "-5", "soon", "1e3", "", "9" * 40])
async def test_bad_timeout_header_is_named(client: AsyncClient, given: str) -> None:
    headers = {"X-Request-Timeout-Ms": given}
    answer = await client.post(FORECAST_PATH, json={"series": [{"target": [1]}]}, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["parameter"] == "X-Request-Timeout-Ms"


@pytest.mark.parametrize("name", ["nope", "..", "%2e%2e", "a%2Fb", "monthly%00", "é", "x" * 5000])
async def test_unknown_model_is_404(client: AsyncClient, name: str) -> None:
    answer = await client.post(f"/v1/models/{name}/forecast", json={"series": [{"target": [1]}]})
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("version", ["9", "0", "01", "x", "9" * 5000, "%00", "é"])
async def test_unknown_version_is_404_and_the_versions_are_named(
    client: AsyncClient, version: str
) -> None:
    path = f"/v1/models/monthly/versions/{version}/forecast"
    answer = await client.post(path, json={"series": [{"target": [1]}]})
    assert answer.status_code == 404
    assert "it has 1, 2, 3" in answer.json()["detail"]


async def test_unknown_model_is_refused_before_the_body_is_read(app: FastAPI) -> None:
    answer = await call(app, [b"x"] * 9, path="/v1/models/nope/forecast")
    assert (answer.status, answer.num_chunks_read) == (404, 0)


JSON = {"Content-Type": "application/json"}
