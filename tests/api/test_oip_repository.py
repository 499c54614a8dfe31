"""Loading and unloading models by the Open Inference Protocol."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from httpx import ASGITransport, AsyncClient
from prometheus_client import REGISTRY

from app.errors import GatecastError, ModelNotFoundError, ModelNotReadyError, ModelRefusedError
from app.gateway.drain import Drain
from app.gateway.main import create_app
from app.settings import load_settings
from tests.fakes import FakeRunners

REPOSITORY = "/v2/repository/models/monthly"


@pytest_asyncio.fixture
async def explicit(runners: FakeRunners) -> AsyncIterator[AsyncClient]:
    app = create_app(load_settings(model_control="explicit"), runners, Drain())
    async with AsyncClient(transport=ASGITransport(app), base_url="http://gatecast") as client:
        yield client


@pytest.mark.parametrize("operation", ["load", "unload"])
@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"parameters": {"unload_dependents": false}}'], ids=str
)
async def test_model_is_changed_on_the_runners(
    explicit: AsyncClient, runners: FakeRunners, operation: str, body: bytes
) -> None:
    answer = await explicit.post(f"{REPOSITORY}/{operation}", content=body)
    assert answer.status_code == 200
    assert runners.changes == [(operation, "monthly")]


@pytest.mark.parametrize("operation", ["load", "unload"])
async def test_models_are_not_changed_by_request_unless_told_so(
    client: AsyncClient, runners: FakeRunners, operation: str
) -> None:
    answer = await client.post(f"{REPOSITORY}/{operation}", json={})
    assert answer.status_code == 501
    assert "GATECAST_MODEL_CONTROL" in answer.json()["error"]
    assert not runners.changes


async def test_name_of_no_model_is_no_label(
    client: AsyncClient, explicit: AsyncClient, runners: FakeRunners
) -> None:
    runners.error = ModelNotFoundError("the repository holds no version of this model")
    for caller in (client, explicit):
        await caller.post("/v2/repository/models/never-loaded-44/load", json={})
    assert "never-loaded" not in (await client.get("/metrics")).text


async def test_name_of_a_changed_model_is_a_label(explicit: AsyncClient) -> None:
    await explicit.post(f"{REPOSITORY}/load")
    route = "/v2/repository/models/{model_name}/load"
    labels = {"route": route, "model_name": "monthly", "model_version": "", "status": "200"}
    assert REGISTRY.get_sample_value("gatecast_requests_total", labels)


@pytest.mark.parametrize("name", ["config", "file:1/model.onnx"])
async def test_model_never_comes_with_the_request(
    explicit: AsyncClient, runners: FakeRunners, name: str
) -> None:
    answer = await explicit.post(f"{REPOSITORY}/load", json={"parameters": {name: "x"}})
    assert answer.status_code == 501
    assert "model repository alone" in answer.json()["error"]
    assert not runners.changes


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"parameters": 1}', b"\xff"], ids=str)
async def test_broken_bodies_are_refused(explicit: AsyncClient, body: bytes) -> None:
    answer = await explicit.post(f"{REPOSITORY}/load", content=body)
    assert answer.status_code == 400
    assert "parameters" in answer.json()["error"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ModelNotFoundError("the repository holds no version of this model"), 404),
        (ModelRefusedError("model monthly version 3 is refused: damaged"), 400),
        (ModelNotReadyError("the runner is not up"), 503),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_failures_say_why(
    explicit: AsyncClient, runners: FakeRunners, error: GatecastError, status: int
) -> None:
    runners.error = error
    answer = await explicit.post(f"{REPOSITORY}/load")
    assert answer.status_code == status
    assert answer.json() == {"error": str(error)}
