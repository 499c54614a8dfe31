"""Categories and calendar features on their way from a request to the tensors of a model."""

import datetime as dt
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from app.calendar import Frequency
from app.calendar_features import CalendarFeatures
from app.gateway.drain import Drain
from app.gateway.main import create_app
from app.runner.engine import OrtEngine
from app.settings import Settings
from tests.api.raw import FORECAST_PATH
from tests.fakes import FakeRunners, forecaster, make_card
from tests.tiny_artifact import WITH_COVARIATES, tiny_artifact

CALENDAR = ("month_sin", "month_cos")
CARD = make_card(
    horizon=4,
    context_length=6,
    future_covariates=("promo",),
    static_covariates=("size", "region"),
    static_categories={"region": ("north", "south")},
    calendar_features=CALENDAR,
)
SERIES: dict[str, Any] = {
    "start": "2024-01-31",
    "target": [1, 2, 3],
    "future_covariates": {"promo": [0] * 7},
    "static_covariates": {"size": 2.5, "region": "south"},
}


@pytest.fixture
def runners() -> FakeRunners:
    return FakeRunners(forecaster("monthly", 1, CARD))


async def post(
    runners: FakeRunners, settings: Settings, series: dict[str, Any], **body: Any
) -> httpx.Response:
    transport = httpx.ASGITransport(create_app(settings, runners, Drain()))
    async with httpx.AsyncClient(transport=transport, base_url="http://gatecast") as client:
        return await client.post(FORECAST_PATH, json={"series": [series], **body})


def calendar_of(first: int, count: int) -> NDArray[np.float32]:
    features = CalendarFeatures(CALENDAR, Frequency.parse("M"))
    return features.compute(dt.datetime.fromisoformat("2024-01-31"), first, count)


@pytest.mark.parametrize(
    ("region", "code"), [("north", 1), ("south", 2), ("east", 0), ("", 0), (None, 0)]
)
async def test_category_becomes_its_number(
    runners: FakeRunners, settings: Settings, region: str | None, code: int
) -> None:
    series = SERIES | {"static_covariates": {"size": 2.5, "region": region}}
    answer = await post(runners, settings, series)
    assert answer.status_code == 200
    static = runners.inferences[0].inputs["static_covariates"]
    np.testing.assert_array_equal(static, np.array([[2.5, code]], np.float32))


@pytest.mark.parametrize(("region", "code"), [("north", 1), ("south", 2), ("east", 0), ("", 0)])
async def test_category_in_a_file_becomes_its_number(
    client: httpx.AsyncClient, runners: FakeRunners, region: str, code: int
) -> None:
    months = [f"2024-0{month}-01,{month if month < 4 else ''},0" for month in range(1, 8)]
    rows = [f"{row},2.5,{region}" for row in months]
    body = "\n".join(["timestamp,target,promo,size,region", *rows])
    headers = {"Content-Type": "text/csv"}
    answer = await client.post(FORECAST_PATH, content=body, headers=headers)
    assert answer.status_code == 200
    static = runners.inferences[0].inputs["static_covariates"]
    np.testing.assert_array_equal(static, np.array([[2.5, code]], np.float32))


@pytest.mark.parametrize(
    ("static", "name", "kind"),
    [
        ({"size": 1, "region": 2}, "region", "string"),
        ({"size": "L", "region": "a"}, "size", "number"),
    ],
    ids=["number for a category", "text for a number"],
)
async def test_static_covariate_of_the_wrong_type_is_refused(
    runners: FakeRunners, settings: Settings, static: dict[str, Any], name: str, kind: str
) -> None:
    answer = await post(runners, settings, SERIES | {"static_covariates": static})
    problem = answer.json()
    assert answer.status_code == 422
    assert problem["errors"][0]["pointer"] == f"/series/0/static_covariates/{name}"
    assert f"{name} must be a {kind} or null" in problem["detail"]


async def test_calendar_follows_the_columns_of_the_caller(
    runners: FakeRunners, settings: Settings
) -> None:
    series = SERIES | {"future_covariates": {"promo": [5, 6, 7, 8, 9]}}
    await post(runners, settings, series, horizon=2)
    future = runners.inferences[0].inputs["future_covariates"][0]
    np.testing.assert_array_equal(future[:, 0], [5, 6, 7, 8, 9, np.nan, np.nan])
    np.testing.assert_array_equal(future[:, 1:], calendar_of(0, 7))


async def test_calendar_is_cut_with_the_context(runners: FakeRunners, settings: Settings) -> None:
    series = SERIES | {"target": list(range(20)), "future_covariates": {"promo": [0] * 24}}
    await post(runners, settings, series)
    future = runners.inferences[0].inputs["future_covariates"][0]
    np.testing.assert_array_equal(future[:, 1:], calendar_of(14, 10))


async def test_calendar_without_a_start_is_refused(
    runners: FakeRunners, settings: Settings
) -> None:
    series = {name: value for name, value in SERIES.items() if name != "start"}
    answer = await post(runners, settings, series)
    problem = answer.json()
    assert answer.status_code == 422
    assert problem["errors"][0]["pointer"] == "/series/0/start"
    assert "start is needed: this model reads the calendar" in problem["detail"]


async def test_calendar_beyond_the_last_year_is_refused(
    runners: FakeRunners, settings: Settings
) -> None:
    answer = await post(runners, settings, SERIES | {"start": "9999-12-01"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/series/0/start"


async def test_calendar_goes_on_beyond_the_horizon(
    runners: FakeRunners, settings: Settings
) -> None:
    series = SERIES | {"future_covariates": {"promo": list(range(10))}}
    answer = await post(runners, settings, series, horizon=7)
    assert answer.status_code == 200
    future = runners.inferences[1].inputs["future_covariates"][0]
    np.testing.assert_array_equal(future[:, 1:], calendar_of(1, 10))
    np.testing.assert_array_equal(future[:, 0], [*range(1, 10), np.nan])


@pytest.fixture
def real_runners() -> FakeRunners:
    engine = OrtEngine.from_bytes(tiny_artifact(**WITH_COVARIATES), "cpu")
    return FakeRunners(forecaster("monthly", 1, engine.card), engine=engine)


async def medians_of(
    runners: FakeRunners, settings: Settings, region: str | None, start: str
) -> list[float]:
    series = {
        "start": start,
        "target": [5, 7, 6, 8],
        "past_covariates": {"price": [1, 2, 3, 4]},
        "future_covariates": {"holiday": [0] * 10, "promotion": [1] * 10},
        "static_covariates": {"size": 3, "region": region},
    }
    answer = await post(runners, settings, series)
    assert answer.status_code == 200, answer.text
    medians: list[float] = answer.json()["forecasts"][0]["quantiles"]["0.5"]
    return medians


async def test_forecast_of_a_real_model_depends_on_category_and_calendar(
    real_runners: FakeRunners, settings: Settings
) -> None:
    async def forecast(region: str | None, start: str = "2024-01-01") -> list[float]:
        return await medians_of(real_runners, settings, region, start)

    north = await forecast("north")
    assert north != await forecast("south")
    assert north != await forecast("north", "2024-06-01")
    assert north == await forecast("north", "2020-01-01")
    assert await forecast(None) == await forecast("never seen")
