"""The container's own command, started as SageMaker and Vertex AI start it."""

import json
from pathlib import Path
from typing import Any

from tests.e2e.client import Client
from tests.e2e.service import serving_container

STOP_WITHIN_S = 30
"""SageMaker kills a container that lives longer than that after SIGTERM."""

TARGET = [112, 118, 132, 129, 121, 135, 148, 148, 136, 119, 104, 118, 115, 126, 141]


async def native(client: Client, target: list[Any], levels: list[float]) -> dict[str, list[float]]:
    body = {"series": [{"target": target}], "quantile_levels": levels}
    answer = await client.post("/v1/models/tiny/forecast", body)
    quantiles: dict[str, list[float]] = answer.json()["forecasts"][0]["quantiles"]
    return quantiles


async def test_sagemaker_starts_asks_and_stops_the_container(tiny_repository: Path) -> None:
    environment = {
        "SM_MODEL_DIR": str(tiny_repository),  # else /opt/ml/model, where there is one
        "SAGEMAKER_BIND_TO_PORT": "0",
        "DEEPAR_INFERENCE_CONFIG": '{"output_types": ["quantiles"], "quantiles": ["0.5", "0.9"]}',
    }
    instance = {"start": "2009-11-01 00:00:00", "target": [*TARGET, "NaN", None, 150]}
    configuration = {
        "num_samples": 5,
        "output_types": ["mean", "quantiles", "samples"],
        "quantiles": ["0.1", "0.9"],
    }
    lines = f"{json.dumps(instance)}\n{json.dumps(instance | {'target': TARGET})}\n".encode()
    async with serving_container(environment) as service, Client(service.port) as client:
        ping = await client.get("/ping")
        want = await native(client, [*TARGET, None, None, 150], [0.1, 0.3, 0.5, 0.7, 0.9])
        body = {"instances": [instance], "configuration": configuration}
        answer = (await client.post("/invocations", body)).json()
        batch = await client.post("/invocations", lines, {"content-type": "application/jsonlines"})
        client.close()
        status = await service.stop()
    (prediction,) = answer["predictions"]
    assert (ping.status, ping.body, status) == (200, b"", 0)
    assert prediction["mean"] == want["0.5"]
    assert prediction["quantiles"] == {"0.1": want["0.1"], "0.9": want["0.9"]}
    assert prediction["samples"] == list(want.values())
    assert [list(json.loads(line)) for line in batch.body.splitlines()] == [["quantiles"]] * 2
    assert json.loads(batch.body.splitlines()[0])["quantiles"]["0.5"] == want["0.5"]


async def test_vertex_names_port_and_routes(tiny_repository: Path) -> None:
    environment = {
        "AIP_STORAGE_URI": str(tiny_repository),
        "AIP_HTTP_PORT": "0",
        "AIP_HEALTH_ROUTE": "/v1/endpoints/7/deployedModels/8",
        "AIP_PREDICT_ROUTE": "/v1/endpoints/7/deployedModels/8:predict",
    }
    body = {"instances": [TARGET], "parameters": {"quantile_levels": [0.2]}}
    async with serving_container(environment) as service, Client(service.port) as client:
        health = await client.get(environment["AIP_HEALTH_ROUTE"])
        want = await native(client, TARGET, [0.2])
        answer = (await client.post(environment["AIP_PREDICT_ROUTE"], body)).json()
    assert health.status == 200
    assert answer["predictions"] == [{"quantiles": want, "notes": ["short_history"]}]
