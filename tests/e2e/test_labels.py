"""Two versions of a model side by side in a real service: labels, shares, configs."""

import asyncio
import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from app.models_command import models
from tests.e2e.client import Client
from tests.e2e.service import Service, serving, write_model
from tests.e2e.traffic import path_of
from tests.tiny_artifact import tiny_artifact

NUM_REQUESTS = 200
FORECAST = path_of("tiny")
BODY = {"series": [{"target": [float(n) for n in range(1, 13)]}]}
LOAD = "/v2/repository/models/tiny/load"
SETTINGS = {"model_control": "explicit", "retire_after_s": 0.3, "access_log": False}


async def command(service: Service, *arguments: str) -> str:
    """Run ``gatecast models`` against the service and return what it prints."""
    url = f"http://127.0.0.1:{service.port}"
    result = await asyncio.to_thread(CliRunner().invoke, models, [*arguments, "--url", url])
    assert result.exit_code == 0, result.exception
    return result.stdout


async def ask_for(client: Client, version: str) -> int:
    answer = await client.post(f"/v1/models/tiny/versions/{version}/forecast", BODY)
    assert answer.status == 200, answer.body
    number: int = answer.json()["model_version"]
    return number


async def table(client: Client) -> list[tuple[str, list[str], float]]:
    index = (await client.post("/v2/repository/index", {})).json()
    return [(entry["version"], entry["labels"], entry["share"]) for entry in index]


@pytest.mark.timeout(300)
async def test_canary_gets_its_share_until_it_is_promoted(tmp_path: Path) -> None:
    sound = [tiny_artifact(context_length=512), tiny_artifact(context_length=512, hidden_size=6)]
    digests = [f"sha256={hashlib.sha256(model).hexdigest()}" for model in sound]
    write_model(tmp_path, sound[0])
    async with serving(tmp_path, runners=2, **SETTINGS) as service, Client(service.port) as client:
        write_model(tmp_path, sound[1], version=2)
        await command(service, "label", "tiny", "stable", "1")
        await command(service, "label", "tiny", "canary", "2", "--share", "0.1")
        assert await table(client) == [("1", ["stable"], 0.9), ("2", ["canary"], 0.1)]
        assert "canary  10%" in await command(service, "list")

        answers = [await client.post(FORECAST, BODY) for _ in range(NUM_REQUESTS)]
        given = Counter(
            (a.json()["model_version"], a.headers["x-model-digest"], str(a.json()["forecasts"]))
            for a in answers
        )
        versions = Counter({key[0]: count for key, count in given.items()})
        assert {key[:2] for key in given} == {(1, digests[0]), (2, digests[1])}
        assert len(given) == 2
        assert abs(versions[2] - NUM_REQUESTS // 10) <= 2
        assert [await ask_for(client, name) for name in ("canary", "stable", "2")] == [2, 1, 2]

        await command(service, "label", "tiny", "stable", "2")
        await command(service, "label", "tiny", "canary", "--remove")
        assert [(await client.post(FORECAST, BODY)).json()["model_version"]] == [2]
    async with serving(tmp_path, **SETTINGS) as service, Client(service.port) as client:
        assert await table(client) == [("2", ["stable"], 1.0)]


@pytest.mark.timeout(300)
async def test_wrong_config_changes_nothing_but_what_the_index_says(tmp_path: Path) -> None:
    for version in (1, 2):
        write_model(tmp_path, tiny_artifact(context_length=512), version=version)
    config = tmp_path / "tiny" / "config.toml"
    config.write_text("[versions]\nall = true\n")
    async with serving(tmp_path, **SETTINGS) as service, Client(service.port) as client:
        config.write_text("[labels]\nstable = 'one'\n")
        refused = await client.post(LOAD, {})
        forecast = await client.post(FORECAST, BODY)
        index = (await client.post("/v2/repository/index", {})).json()
        config.write_text("max_batch_size = 3\n[labels]\nstable = 1\n")
        loaded = await client.post(LOAD, {})
        changed = await client.get("/v2/models/tiny/versions/stable/config")
        rows = await table(client)
    sentence = "config.toml: labels: stable: Input should be a valid integer"
    assert refused.status == 400
    assert sentence in json.loads(refused.body)["error"]
    assert (forecast.status, forecast.json()["model_version"]) == (200, 2)
    assert [(e["version"], e["state"], e["reason"]) for e in index] == [
        ("1", "READY", sentence),
        ("2", "READY", sentence),
    ]
    assert loaded.status == 200
    assert changed.json()["max_batch_size"] == 3
    assert rows == [("1", ["stable"], 1.0), ("2", [], 0.0)]
