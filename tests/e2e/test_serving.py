"""What a caller sees of a real service: its numbers, whoever shares their batch."""

from pathlib import Path

import numpy as np
import pytest

from tests.e2e.client import Client
from tests.e2e.service import serving, serving_at_full_speed, write_model
from tests.e2e.traffic import forecast_all, make_requests, path_of, quantiles_of
from tests.tiny_artifact import tiny_artifact

FORECAST = path_of("tiny")
NUM_REQUESTS = 5000
NUM_CLIENTS = 64
RELATIVE_TOLERANCE = 1e-5


@pytest.mark.timeout(300)
async def test_batching_never_changes_an_answer(tiny_repository: Path) -> None:
    requests = make_requests(NUM_REQUESTS)
    settings = {"access_log": False, "state_cache_bytes": 0}
    async with serving_at_full_speed(tiny_repository, **settings) as service:
        together = await forecast_all(service, "tiny", requests, num_clients=NUM_CLIENTS)
        alone = await forecast_all(service, "tiny", requests, num_clients=1)
    for number, (shared, single) in enumerate(zip(together, alone, strict=True)):
        assert shared["forecasts"][0]["item_id"] == str(number)
        got, want = quantiles_of(shared), quantiles_of(single)
        np.testing.assert_allclose(got, want, rtol=RELATIVE_TOLERANCE)


async def test_many_series_of_one_request_come_back_in_order(tiny_repository: Path) -> None:
    series = [request["series"][0] for request in make_requests(300)]
    async with serving(tiny_repository, runners=2) as service, Client(service.port) as client:
        answer = (await client.post(FORECAST, {"series": series, "horizon": 2})).json()
        single = (await client.post(FORECAST, {"series": [series[123]], "horizon": 2})).json()
    assert [f["item_id"] for f in answer["forecasts"]] == [str(n) for n in range(300)]
    got, want = (
        answer["forecasts"][123]["quantiles"]["0.5"],
        single["forecasts"][0]["quantiles"]["0.5"],
    )
    np.testing.assert_allclose(got, want, rtol=RELATIVE_TOLERANCE)


async def test_broken_model_file_is_named_and_the_others_serve(tmp_path: Path) -> None:
    model = tiny_artifact()
    write_model(tmp_path, model)
    damaged = bytearray(model)
    damaged[len(model) // 2] ^= 1
    write_model(tmp_path, bytes(damaged), name="damaged")
    write_model(tmp_path, model[:1000], name="truncated")
    async with serving(tmp_path) as service, Client(service.port) as client:
        assert (
            "model    damaged version 1: refused: damaged: the file does not match"
            in service.banner
        )
        assert "model    truncated version 1: refused: " in service.banner
        refused = await client.post("/v1/models/damaged/forecast", {"series": [{"target": [1, 2]}]})
        served = await client.post(FORECAST, {"series": [{"target": [1, 2]}]})
        ready = await client.get("/readyz")
    assert (refused.status, served.status, ready.status) == (503, 200, 200)


async def test_older_sound_version_serves_where_the_newest_is_broken(tmp_path: Path) -> None:
    write_model(tmp_path, tiny_artifact(), version=9)
    write_model(tmp_path, b"half a file", version=10)
    async with serving(tmp_path) as service, Client(service.port) as client:
        answer = await client.post(FORECAST, {"series": [{"target": [1, 2, 3]}]})
    assert answer.json()["model_version"] == 9


async def test_metrics_cover_all_processes(tiny_repository: Path) -> None:
    async with serving(tiny_repository, gateways=2) as service, Client(service.port) as client:
        for _ in range(5):
            await client.post(FORECAST, {"series": [{"target": [1, 2, 3]}, {"target": [4]}]})
        text = (await client.get("/metrics")).body.decode()
    assert 'gatecast_batch_rows_sum{model_name="tiny"} 10.0' in text
    assert "gatecast_request_duration_seconds_bucket" in text


async def test_tritons_metrics_are_summed_over_runners(tiny_repository: Path) -> None:
    settings = {"gateways": 2, "runners": 2}
    async with serving(tiny_repository, **settings) as service, Client(service.port) as client:
        for _ in range(5):
            await client.post(FORECAST, {"series": [{"target": [1, 2]}, {"target": [3, 4]}]})
        text = (await client.get("/metrics")).body.decode()
    assert 'nv_inference_count{model="tiny",version="1"} 10\n' in text
    assert 'nv_inference_request_success{model="tiny",version="1"} 5\n' in text
