"""Models without a card: described truthfully, served below /v2, never asked for forecasts."""

import httpx
import pytest

from app.gateway.runner_client import ModelVersion
from app.runner.engine import OrtEngine
from app.runner.trial import find_interface
from tests.fakes import FakeRunners
from tests.plain_models import lstm_model


@pytest.fixture(scope="module")
def engine() -> OrtEngine:
    engine = OrtEngine.from_bytes(lstm_model(), "cpu")
    engine.interface = find_interface(engine)
    return engine


@pytest.fixture
def runners(engine: OrtEngine) -> FakeRunners:
    return FakeRunners(ModelVersion("plain", 1, engine.interface), engine=engine)


async def test_forecast_is_refused_and_told_where_to_go(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/models/plain/forecast", json={"series": [{"target": [1]}]})
    assert (answer.status_code, answer.json()["type"]) == (409, "no-forecaster")
    assert "/v2/models/plain/infer" in answer.json()["detail"]


async def test_lists_say_that_it_makes_no_forecasts(client: httpx.AsyncClient) -> None:
    (listed,) = (await client.get("/v1/models")).json()["models"]
    assert (listed["is_ready"], listed["makes_forecasts"], listed["horizon"]) == (True, False, None)
    described = (await client.get("/v1/models/plain")).json()
    assert (described["is_ready"], described["card"]) == (True, None)
    assert "<td>tensors</td>" in (await client.get("/")).text


async def test_whole_shapes_are_described_where_the_batch_is_not_first(
    client: httpx.AsyncClient,
) -> None:
    config = (await client.get("/v2/models/plain/config")).json()
    metadata = (await client.get("/v2/models/plain")).json()
    assert config["max_batch_size"] == 0
    assert metadata["inputs"][0] == {"name": "X", "datatype": "FP32", "shape": [-1, -1, 3]}
    assert config["input"][0]["dims"] == [-1, -1, 3]
    assert [one["optional"] for one in config["input"]] == [False, True, True, True]


async def test_service_is_ready_with_plain_models_alone(client: httpx.AsyncClient) -> None:
    assert (await client.get("/readyz")).status_code == 200
