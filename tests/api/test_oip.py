"""The Open Inference Protocol beside inference, in process."""

from pathlib import Path

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient

from app.gateway.drain import Drain
from app.gateway.main import create_app
from app.keys import create_key
from app.settings import load_settings
from app.statistics import RunTimes, VersionStatistics
from tests.api.oip import INFER_PATH
from tests.api.raw import call
from tests.fakes import FakeRunners, forecaster, make_card

MODEL = "/v2/models/monthly"


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", f"{MODEL}/ready"])
async def test_healthy_service_is_200(client: AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 200


async def test_service_that_drains_is_live_but_not_ready(client: AsyncClient, drain: Drain) -> None:
    drain.begin()
    assert (await client.get("/v2/health/live")).json() == {"live": True}
    ready = await client.get("/v2/health/ready")
    assert (ready.status_code, ready.json()["ready"]) == (503, False)
    assert "shutting down" in ready.json()["error"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"{MODEL}/versions/3/ready", 503),
        (f"{MODEL}/versions/9/ready", 404),
        ("/v2/models/none/ready", 404),
        ("/v2/models/broken/config", 503),
        ("/v2/models/none/stats", 404),
        (f"{MODEL}/versions/x", 404),
        (f"{MODEL}/versions/0/stats", 404),
        ("/v2/logging", 404),
        ("/v2/trace/setting", 404),
        (f"{MODEL}/trace/setting", 404),
        ("/v2/systemsharedmemory/status", 404),
        ("/v2/nope", 404),
        ("/v2/", 404),
        (f"{MODEL}/infer", 405),
        ("/v2/repository/index", 405),
    ],
)
async def test_every_error_is_one_sentence(client: AsyncClient, path: str, status: int) -> None:
    answer = await client.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    assert "detail" not in answer.json()["error"]


async def test_stranger_gets_one_sentence(tmp_path: Path, runners: FakeRunners) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{create_key().line}\n")
    app = create_app(load_settings(api_keys_file=keys), runners, Drain())
    async with AsyncClient(transport=ASGITransport(app), base_url="http://gatecast") as stranger:
        answer = await stranger.post(INFER_PATH)
    assert (answer.status_code, list(answer.json())) == (401, ["error"])


async def test_paths_that_only_begin_alike_get_problems(client: AsyncClient) -> None:
    assert (await client.get("/v2nope")).json()["type"] == "about:blank"


async def test_server_names_its_extensions(client: AsyncClient) -> None:
    content = (await client.get("/v2")).json()
    assert content["name"] == "gatecast"
    known = {"binary_tensor_data", "statistics", "model_configuration", "schedule_policy"}
    assert known | {"sequence", "sequence(string_id)"} <= set(content["extensions"])


async def test_metadata_have_the_batch_in_their_shapes(client: AsyncClient) -> None:
    content = (await client.get(MODEL)).json()
    assert content == {
        "name": "monthly",
        "versions": ["1", "2"],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": "past_target", "datatype": "FP32", "shape": [-1, -1]},
            {"name": "sequence_lens", "datatype": "INT32", "shape": [-1, 1]},
        ],
        "outputs": [{"name": "quantiles", "datatype": "FP32", "shape": [-1, 12, 5]}],
    }


async def test_config_leaves_the_batch_out(client: AsyncClient) -> None:
    content = (await client.get(f"{MODEL}/versions/1/config")).json()
    assert (content["max_batch_size"], content["name"]) == (16, "monthly")
    assert "dynamic_batching" in content
    past_target, sequence_lens = content["input"]
    assert past_target == {
        "name": "past_target",
        "data_type": "TYPE_FP32",
        "dims": [-1],
        "optional": False,
    }
    assert (sequence_lens["optional"], sequence_lens["dims"]) == (True, [1])


@pytest.mark.parametrize(("cap", "preferred"), [(None, []), (8, [8]), (16, [])])
async def test_config_prefers_the_size_beyond_which_nothing_is_gained(
    client: AsyncClient, runners: FakeRunners, cap: int | None, preferred: list[int]
) -> None:
    if cap is not None:
        runners.batch_size_caps["monthly", 1] = cap
    content = (await client.get(f"{MODEL}/versions/1/config")).json()
    assert content["dynamic_batching"]["preferred_batch_size"] == preferred


@pytest.mark.parametrize(
    ("path", "versions"),
    [
        ("/v2/models/stats", [("free", "1"), ("monthly", "1"), ("monthly", "2")]),
        (f"{MODEL}/stats", [("monthly", "1"), ("monthly", "2")]),
        (f"{MODEL}/versions/2/stats", [("monthly", "2")]),
    ],
)
async def test_statistics_are_those_asked_for(
    client: AsyncClient, runners: FakeRunners, path: str, versions: list[tuple[str, str]]
) -> None:
    names = [("free", 1), ("monthly", 1), ("monthly", 2)]
    runners.known_statistics = [VersionStatistics(*name) for name in names]
    content = (await client.get(path)).json()
    assert [(one["name"], one["version"]) for one in content["model_stats"]] == versions


async def test_statistics_have_every_count(client: AsyncClient, runners: FakeRunners) -> None:
    statistics = VersionStatistics("monthly", 1, last_inference_ms=7, inference_count=6)
    statistics.queue.record(0.5, count=2)
    statistics.batches[3] = RunTimes()
    statistics.batches[3].record((0.1, 0.2, 0.3), count=1)
    runners.known_statistics = [statistics]
    (content,) = (await client.get("/v2/models/stats")).json()["model_stats"]
    names = {"success", "fail", "queue", "cache_hit", "cache_miss"}
    parts = {"compute_input", "compute_infer", "compute_output"}
    assert content["inference_stats"].keys() == names | parts
    assert content["inference_stats"]["queue"] == {"count": 2, "ns": 1_000_000_000}
    assert content["batch_stats"] == [
        {
            "batch_size": 3,
            "compute_input": {"count": 1, "ns": 100_000_000},
            "compute_infer": {"count": 1, "ns": 200_000_000},
            "compute_output": {"count": 1, "ns": 300_000_000},
        }
    ]
    assert (content["last_inference"], content["inference_count"]) == (7, 6)


async def test_index_lists_what_is_ready_and_what_is_not(app: FastAPI, client: AsyncClient) -> None:
    index = (await client.post("/v2/repository/index")).json()
    states = {(one["name"], one["version"]): one["state"] for one in index}
    assert states["monthly", "2"] == "READY"
    assert states["monthly", "3"] == "UNAVAILABLE"
    assert all(one["reason"] for one in index if one["state"] != "READY")
    ready = (await client.post("/v2/repository/index", json={"ready": True})).json()
    assert {one["state"] for one in ready} == {"READY"}
    wrong = await call(app, [b'{"ready": 3}'], path="/v2/repository/index")
    assert wrong.status == 400


async def test_model_named_stats_is_described_beside_the_statistics(
    client: AsyncClient, runners: FakeRunners
) -> None:
    runners.versions.append(forecaster("stats", 4, make_card()))
    content = (await client.get("/v2/models/stats")).json()
    assert content["model_stats"] == []
    assert (content["name"], content["versions"]) == ("stats", ["4"])


@pytest.mark.parametrize("method", ["DELETE", "PATCH", "PUT"])
async def test_unknown_method_is_405_in_one_sentence(client: AsyncClient, method: str) -> None:
    for path in ("/v2", MODEL, f"{MODEL}/infer", "/v2/models/stats"):
        answer = await client.request(method, path)
        assert (answer.status_code, list(answer.json())) == (405, ["error"])
        assert answer.headers["allow"]


async def test_metrics_name_the_route_and_the_model(client: AsyncClient) -> None:
    await client.get(f"{MODEL}/stats")
    text = (await client.get("/metrics")).text
    assert 'route="/v2/models/{model_name}/stats"' in text
