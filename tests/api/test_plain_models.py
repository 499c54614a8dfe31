"""Models without a card: described truthfully, served below /v2, never asked for forecasts."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import numpy as np
import pytest
from onnx import TensorProto

from app.gateway.drain import Drain
from app.gateway.main import create_app
from app.gateway.runners import ModelVersion
from app.runner.engine import OrtEngine
from app.runner.trial import find_interface
from app.settings import load_settings
from tests.api.oip import HEADER, binary_input, read_outputs
from tests.fakes import FakeRunners
from tests.plain_models import identity_model, lstm_model

RAW_PATH = "/v2/models/plain/infer"


@asynccontextmanager
async def serve(model: bytes) -> AsyncIterator[httpx.AsyncClient]:
    """Serve one plain model in process."""
    engine = OrtEngine.from_bytes(model, "cpu")
    engine.interface = find_interface(engine)
    runners = FakeRunners(ModelVersion("plain", 1, engine.interface), engine=engine)
    app = create_app(load_settings(), runners, Drain())
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://gatecast"
    ) as client:
        yield client


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


async def test_whole_shapes_are_described_where_the_batch_is_not_first(
    client: httpx.AsyncClient,
) -> None:
    config = (await client.get("/v2/models/plain/config")).json()
    metadata = (await client.get("/v2/models/plain")).json()
    assert config["max_batch_size"] == 0
    assert metadata["inputs"][0] == {"name": "X", "datatype": "FP32", "shape": [-1, -1, 3]}
    assert config["input"][0]["dims"] == [-1, -1, 3]
    assert [one["optional"] for one in config["input"]] == [False, True, True, True]


@pytest.mark.parametrize(
    ("declares", "scheduler"), [(False, "dynamic_batching"), (True, "sequence_batching")]
)
async def test_config_names_the_scheduler_that_clients_shall_use(
    runners: FakeRunners, *, declares: bool, scheduler: str
) -> None:
    app = create_app(load_settings(declare_sequences=declares), runners, Drain())
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://gatecast"
    ) as client:
        config = (await client.get("/v2/models/plain/config")).json()
    named = {"dynamic_batching", "sequence_batching"} & config.keys()
    assert named == {scheduler}


async def test_service_is_ready_with_plain_models_alone(client: httpx.AsyncClient) -> None:
    assert (await client.get("/readyz")).status_code == 200


@pytest.mark.parametrize(
    ("shape", "num_values", "got"),
    [(("batch", 2), 2, [1, 2]), (("batch", "n", 2), 6, [1, 3, 2]), ((2, 3), 6, [2, 3])],
    ids=str,
)
async def test_raw_request_takes_the_shape_that_fits(
    shape: tuple[int | str, ...], num_values: int, got: list[int]
) -> None:
    body = np.arange(num_values, dtype=np.float32).tobytes()
    async with serve(identity_model(shape=shape)) as client:
        answer = await client.post(RAW_PATH, content=body, headers={HEADER: "0"})
        short = await client.post(RAW_PATH, content=body[:-1], headers={HEADER: "0"})
    assert read_outputs(answer)["y"].shape == tuple(got)
    assert short.status_code == 400


async def test_raw_request_needs_a_shape_that_follows() -> None:
    async with serve(identity_model(shape=("batch", "a", "b"))) as client:
        answer = await client.post(RAW_PATH, content=bytes(8), headers={HEADER: "0"})
    assert "does not follow" in answer.json()["error"]


async def test_infinite_answers_are_null_in_json_and_kept_in_binary() -> None:
    values = np.array([[np.inf, -np.inf]], np.float32)
    head = json.dumps({"inputs": [binary_input(values, "x")]}).encode()
    async with serve(identity_model()) as client:
        headers = {HEADER: str(len(head))}
        text = await client.post(RAW_PATH, content=head + values.tobytes(), headers=headers)
        raw = await client.post(RAW_PATH, content=values.tobytes(), headers={HEADER: "0"})
    assert text.json()["outputs"][0]["data"] == [None, None]
    np.testing.assert_array_equal(read_outputs(raw)["y"], values)


async def test_texts_must_be_whole_and_utf8() -> None:
    async with serve(identity_model(TensorProto.STRING)) as client:
        for block in (b"\x05\0\0\0ab", b"\x01\0\0\0\xff" * 2, b"\0\0\0\0", b"\x01"):
            parameters = {"binary_data_size": len(block)}
            one = {"name": "x", "shape": [1, 2], "datatype": "BYTES", "parameters": parameters}
            head = json.dumps({"inputs": [one]}).encode()
            headers = {HEADER: str(len(head))}
            answer = await client.post(RAW_PATH, content=head + block, headers=headers)
            assert (answer.status_code, list(answer.json())) == (400, ["error"])
