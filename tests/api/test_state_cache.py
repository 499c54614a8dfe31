"""For whom the gateway lets runners keep states."""

from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from app.gateway.drain import Drain
from app.gateway.main import create_app
from app.keys import create_key
from app.model_config import ModelConfig
from app.settings import load_settings
from tests.api.raw import FORECAST_PATH
from tests.fakes import FakeRunners, forecaster, make_card

BODY = {"series": [{"target": [1, 2, 3]}]}


@pytest.mark.parametrize(
    ("header", "owner"),
    [
        (None, ""),
        ("no-cache, max-age=0", ""),
        ("no-store", None),
        ("max-age=0, No-Store", None),
    ],
)
async def test_no_store_keeps_no_state(
    client: httpx.AsyncClient, runners: FakeRunners, header: str | None, owner: str | None
) -> None:
    headers = {} if header is None else {"cache-control": header}
    answer = await client.post(FORECAST_PATH, json=BODY, headers=headers)
    assert (answer.status_code, runners.inferences[0].owner) == (200, owner)


async def test_states_belong_to_the_key(tmp_path: Path, runners: FakeRunners) -> None:
    keys = [create_key(), create_key()]
    path = tmp_path / "keys"
    path.write_text("".join(f"{key.line}\n" for key in keys))
    app = create_app(load_settings(api_keys_file=path), runners, Drain())
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gatecast") as client:
        for key in keys:
            await client.post(FORECAST_PATH, json=BODY, headers={"x-api-key": key.text})
    owners = [inference.owner for inference in runners.inferences]
    assert owners == [key.line.split()[0] for key in keys]


@pytest.mark.parametrize(
    ("settings", "owners"),
    [({}, ["", None]), ({"state_cache_bytes": 0}, [None, None])],
    ids=["on", "off"],
)
async def test_settings_and_a_models_own_switch_it_off(
    settings: dict[str, object], owners: list[str | None]
) -> None:
    kept = forecaster("kept", 1, make_card())
    other = replace(forecaster("other", 1, make_card()), config=ModelConfig(keeps_states=False))
    runners = FakeRunners(kept, other)
    app = create_app(load_settings(**settings), runners, Drain())
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gatecast") as client:
        for model_name in ("kept", "other"):
            await client.post(f"/v1/models/{model_name}/forecast", json=BODY)
    assert [inference.owner for inference in runners.inferences] == owners


async def test_dialects_and_files_share_the_states(
    client: httpx.AsyncClient, runners: FakeRunners
) -> None:
    series = {"y": [1, 2, 3, 4], "sizes": [4]}
    body = {"series": series, "freq": "MS", "h": 2, "model": "monthly"}
    file = b"timestamp,target\n2020-01-01,1\n2020-02-01,2\n2020-03-01,3\n"
    answers = [
        await client.post("/v2/forecast", json=body),
        await client.post(FORECAST_PATH, content=file, headers={"content-type": "text/csv"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert [inference.owner for inference in runners.inferences] == ["", ""]
