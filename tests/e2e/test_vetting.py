"""Model files that would end the process that opens them, and a service that goes on."""

from pathlib import Path

import pytest

from benchmarks.hostile_models import DEATHS, KINDS, measure_kind
from tests.e2e.client import Client
from tests.e2e.service import serving, write_model
from tests.e2e.test_model_changes import FORECAST, LOAD
from tests.e2e.traffic import BODY
from tests.hostile_models import aborting, to_bytes
from tests.tiny_artifact import tiny_artifact


async def test_file_that_kills_leaves_the_old_version_serving(tmp_path: Path) -> None:
    killing = to_bytes(aborting())
    write_model(tmp_path, tiny_artifact(context_length=512))
    write_model(tmp_path, killing, name="killer")
    async with (
        serving(tmp_path, model_control="explicit") as service,
        Client(service.port) as client,
    ):
        before = service.runners
        write_model(tmp_path, killing, version=2)
        refused = await client.post(LOAD, {})
        forecast = await client.post(FORECAST, BODY)
        index = (await client.post("/v2/repository/index", {})).json()
        metrics = (await client.get("/metrics")).body.decode()
        assert service.runners == before
    assert service.banner.count("SIGABRT") == 1
    assert refused.status == 400
    assert "ended the process that tried it (SIGABRT)" in refused.json()["error"]
    assert (forecast.status, forecast.json()["model_version"]) == (200, 1)
    states = {(e["name"], e["version"]): (e["state"], "SIGABRT" in e["reason"]) for e in index}
    assert states == {
        ("killer", "1"): ("UNAVAILABLE", True),
        ("tiny", "1"): ("READY", False),
        ("tiny", "2"): ("UNAVAILABLE", True),
    }
    assert 'gatecast_model_loads_total{model_name="tiny",outcome="refused"} 1.0' in metrics


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_thousands_of_bad_files_do_no_harm(kind: str) -> None:
    figures = measure_kind(kind, num_flips=1000)
    assert figures[DEATHS] == 0
    assert figures.get("reads outside", 0) == 0
    may_open = "sound" in kind or "anew" in kind or "plain" in kind
    assert may_open or not any("opened" in outcome for outcome in figures)
