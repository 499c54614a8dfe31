"""Streams of models with covariates: the same numbers as requests with whole histories."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import pytest

from app.gateway.drain import Drain
from app.gateway.main import create_app
from app.runner.engine import OrtEngine
from app.settings import Settings
from tests.fakes import FakeRunners, forecaster
from tests.tiny_artifact import WITH_COVARIATES, tiny_artifact

MODEL = "/v1/models/monthly"
ONE = f"{MODEL}/streams/shop-17"
OBSERVATIONS = f"{ONE}/observations"
START = "2021-03-31"
STATIC = {"size": 2.5, "region": "south"}
HORIZON, CONTEXT_LENGTH = 6, 64
PATTERNS = 25


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    engine = OrtEngine.from_bytes(tiny_artifact(**WITH_COVARIATES), "cpu")
    runners = FakeRunners(forecaster("monthly", 1, engine.card), engine=engine)
    transport = httpx.ASGITransport(create_app(settings, runners, Drain()))
    async with httpx.AsyncClient(transport=transport, base_url="http://gatecast") as client:
        yield client


@dataclass
class Shop:
    """What happens in a shop: all of it at random, some of it unknown."""

    random: np.random.Generator
    target: list[float | None] = field(default_factory=list)
    price: list[float | None] = field(default_factory=list)
    holiday: list[float | None] = field(default_factory=list)

    def draw(self, count: int) -> list[float | None]:
        values = self.random.uniform(1, 9, count).round(2).tolist()
        return [None if self.random.random() < 0.1 else value for value in values]

    def live(self, count: int, horizon: int) -> dict[str, Any]:
        """Return the values of some more steps and their covariates, as a body takes them."""
        given = {"target": [*self.draw(count - 1), 5.0], "price": self.draw(count)}
        ahead = self.draw(count + horizon)
        self.holiday = [*self.holiday[: len(self.target)], *ahead]
        self.target += given["target"]
        self.price += given["price"]
        return {
            "values": given["target"],
            "past_covariates": {"price": given["price"]},
            "future_covariates": {"holiday": ahead, "promotion": ahead},
        }

    def whole(self, num_kept: int) -> dict[str, Any]:
        """Return the newest values as a series of a forecast request."""
        first = len(self.target) - num_kept
        month = START[:4], int(START[5:7]) - 1 + first
        start = np.datetime64(f"{month[0]}-01") + month[1]
        return {
            "start": f"{start}-01" if first else START,
            "target": self.target[first:],
            "past_covariates": {"price": self.price[first:]},
            "future_covariates": dict.fromkeys(("holiday", "promotion"), self.holiday[first:]),
            "static_covariates": STATIC,
        }


async def native(client: httpx.AsyncClient, series: dict[str, Any], horizon: int) -> Any:
    body = {"series": [series], "horizon": horizon}
    return (await client.post(f"{MODEL}/forecast", json=body)).json()["forecasts"][0]


async def create(client: httpx.AsyncClient, **changes: Any) -> httpx.Response:
    shop = Shop(np.random.default_rng(1))
    history = shop.live(8, HORIZON)
    body = {"target": history.pop("values"), "start": START, "static_covariates": STATIC}
    return await client.put(ONE, json=body | history | changes)


@pytest.mark.parametrize("seed", range(PATTERNS))
async def test_stream_gives_the_numbers_of_its_whole_history(
    client: httpx.AsyncClient, seed: int
) -> None:
    random = np.random.default_rng(seed)
    shop = Shop(random)
    history = shop.live(int(random.integers(1, 70)), HORIZON)
    body = {"target": history.pop("values"), "start": START, "static_covariates": STATIC}
    assert (await client.put(ONE, json=body | history)).status_code == 201
    for _ in range(4):
        step, horizon = len(shop.target), int(random.integers(1, HORIZON + 1))
        given = shop.live(int(random.integers(1, 12)), horizon)
        answer = await client.post(OBSERVATIONS, json={"step": step, "horizon": horizon} | given)
        num_kept = (await client.get(ONE)).json()["num_kept"]
        want = await native(client, shop.whole(num_kept), horizon)
        assert answer.json()["quantiles"] == want["quantiles"]
        read = await client.get(f"{ONE}/forecast", params={"horizon": horizon})
        assert read.json()["quantiles"] == want["quantiles"]


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"past_covariates": None}, "/past_covariates"),
        ({"past_covariates": {"price": [1] * 7}}, "/past_covariates/price"),
        ({"future_covariates": {"holiday": [1] * 14}}, "/future_covariates"),
        ({"static_covariates": {"size": "L", "region": "a"}}, "/static_covariates/size"),
        ({"past_covariates": {"price": [1] * 7 + [1e39]}}, "/past_covariates/price/7"),
        ({"start": None}, "/start"),
    ],
    ids=["none", "too few", "one is missing", "text for a number", "too large", "no start"],
)
async def test_wrong_covariates_of_a_history_are_refused_with_their_place(
    client: httpx.AsyncClient, changes: dict[str, Any], pointer: str
) -> None:
    answer = await create(client, **changes)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"past_covariates": None}, "/past_covariates"),
        ({"past_covariates": {"price": [1, 2]}}, "/past_covariates/price"),
        ({"past_covariates": {"price": [1e39]}}, "/past_covariates/price/0"),
        (
            {"future_covariates": dict.fromkeys(("holiday", "promotion"), [1] * 6)},
            "/future_covariates/holiday",
        ),
    ],
    ids=["none", "too many", "too large", "not far enough ahead"],
)
async def test_wrong_covariates_of_observations_leave_the_stream_as_it_is(
    client: httpx.AsyncClient, changes: dict[str, Any], pointer: str
) -> None:
    await create(client)
    given = Shop(np.random.default_rng(2)).live(1, HORIZON)
    answer = await client.post(OBSERVATIONS, json={"step": 8} | given | changes)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert (await client.get(ONE)).json()["step"] == 8


async def test_forecast_reaches_as_far_as_covariates_are_known(client: httpx.AsyncClient) -> None:
    await create(client)
    given = Shop(np.random.default_rng(2)).live(1, 2)
    await client.post(OBSERVATIONS, json={"step": 8, "horizon": 2} | given)
    answers = [await client.get(f"{ONE}/forecast", params={"horizon": h}) for h in (1, 2, 3)]
    assert [answer.status_code for answer in answers] == [200, 200, 422]
    assert "known for 2 steps ahead" in answers[-1].json()["detail"]
