"""Several GPUs: one runner each. The GPUs are stand-ins, whose runners compute on the CPU."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from app.artifact.directory import MODEL_FILE
from app.runner.engine import OrtEngine
from tests.e2e.client import Client
from tests.e2e.gpu_runner import NO_CUDA_FILE
from tests.e2e.service import Service, serving_container, write_model
from tests.e2e.traffic import path_of
from tests.tiny_artifact import tiny_artifact
from tests.waiting import until

VALUES = [float(n % 7 + 1) for n in range(30)]
BODY = {"series": [{"target": VALUES}]}
RELATIVE_TOLERANCE = 1e-4
JSON = {"content-type": "application/json"}


@asynccontextmanager
async def serving_on_gpus(repository: Path, gpus: str, **settings: str) -> AsyncIterator[Service]:
    environment = {
        "CUDA_VISIBLE_DEVICES": gpus,
        "GATECAST_MODEL_REPOSITORY": str(repository),
        "GATECAST_PORT": "0",
        "GATECAST_DRAIN_DELAY_S": "0.1",
    }
    environment |= {f"GATECAST_{name.upper()}": value for name, value in settings.items()}
    async with serving_container(environment, module="tests.e2e.gpu_service") as service:
        yield service


def visible_gpus(pids: Sequence[int]) -> list[str]:
    """Return the GPU that each process was given, sorted."""
    found: list[str] = []
    for pid in pids:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        found += [v.decode() for v in variables if v.startswith(b"CUDA_VISIBLE_DEVICES=")]
    return sorted(name.partition("=")[2] for name in found)


async def ask_sequence(client: Client, model: str, sequence: int, values: Sequence[float]) -> Any:
    is_start = values[0] == VALUES[0] and len(values) > 1
    body = {
        "inputs": [
            {"name": "past_target", "datatype": "FP32", "shape": [1, len(values)], "data": values}
        ],
        "outputs": [{"name": "quantiles"}],
        "parameters": {"sequence_id": sequence, "sequence_start": is_start},
    }
    answer = await client.post(f"/v2/models/{model}/infer", body)
    assert answer.status == 200, answer.body
    return answer.json()["outputs"][0]["data"]


async def test_each_gpu_has_a_runner_and_models_lie_where_they_are_told(tmp_path: Path) -> None:
    model = tiny_artifact()
    for name, devices in (("everywhere", None), ("first", [0]), ("second", [1])):
        write_model(tmp_path, model, name=name)
        if devices is not None:
            (tmp_path / name / "config.toml").write_text(f"devices = {devices}\n")
    settings = {"gateways": "2", "device": "cuda", "runners": "3"}
    async with (
        serving_on_gpus(tmp_path, "4,2", **settings) as service,
        Client(service.port) as client,
    ):
        assert "device   cuda, 2 GPUs" in service.banner
        assert all(f"model    {name} " in service.banner for name in ("first", "second"))
        runners = service.children("tests.e2e.gpu_runner")
        assert visible_gpus(runners) == ["2", "4"]

        for name in ("everywhere", "first", "second"):
            await _until(client, name, 200)
        engine = OrtEngine.from_file(tmp_path / "first" / "1" / MODEL_FILE, "cpu")
        for name in ("everywhere", "second"):
            for sequence in range(1, 5):
                await ask_sequence(client, name, sequence, VALUES[:29])
            for sequence in range(1, 5):
                got = await ask_sequence(client, name, sequence, VALUES[29:])
                want = engine.run(_inputs(VALUES), ["quantiles"])["quantiles"]
                np.testing.assert_allclose(got, want.ravel(), rtol=RELATIVE_TOLERANCE)
        made = await client.send(
            "PUT", "/v1/models/second/streams/s", b'{"target": [1, 2, 3]}', JSON
        )
        new = {"step": 3, "values": [4.0]}
        added = await client.post("/v1/models/second/streams/s/observations", new)
        assert (made.status, added.status) == (201, 200)

        (second,) = (pid for pid in runners if visible_gpus([pid]) == ["2"])
        os.kill(second, signal.SIGKILL)
        await _until(client, "second", 503)
        assert (await client.post(path_of("first"), BODY)).status == 200
        await _until(client, "second", 200)
        now = service.children("tests.e2e.gpu_runner")
        assert (second in now, visible_gpus(now)) == (False, ["2", "4"])


async def test_runner_comes_back_once_its_gpu_opens_again(tmp_path: Path) -> None:
    write_model(tmp_path, tiny_artifact(), name="second")
    (tmp_path / "second" / "config.toml").write_text("devices = [1]\n")
    away = tmp_path / NO_CUDA_FILE
    async with (
        serving_on_gpus(tmp_path, "4,2", runners="1") as service,
        Client(service.port) as client,
    ):
        await _until(client, "second", 200, (404, 503))  # a gateway hears of one after the other
        before = set(service.children("tests.e2e.gpu_runner"))
        (second,) = (pid for pid in before if visible_gpus([pid]) == ["2"])
        away.touch()
        os.kill(second, signal.SIGKILL)
        await until(lambda: len(set(service.children("tests.e2e.gpu_runner")) - before) == 1)
        await until(lambda: set(service.children("tests.e2e.gpu_runner")) == before - {second})
        away.unlink()
        await _until(client, "second", 200)


async def test_auto_without_cuda_keeps_the_runners_that_were_asked_for(tmp_path: Path) -> None:
    write_model(tmp_path, tiny_artifact())
    environment = {"CUDA_VISIBLE_DEVICES": "0,1,2", "GATECAST_DRAIN_DELAY_S": "0.1"}
    options = (f"--model-repository={tmp_path}", "--port=0", "--runners=2")
    async with (
        serving_container(environment, *options) as service,
        Client(service.port) as client,
    ):
        assert "device   cpu (CUDA was not found)" in service.banner
        await until(lambda: len(service.runners) == 2)
        await _until(client, "tiny", 200)
        for sequence in range(1, 5):
            await ask_sequence(client, "tiny", sequence, VALUES[:29])


async def _until(
    client: Client, name: str, status: int, others: Sequence[int] = (200, 503)
) -> None:
    """Ask for forecasts until the answer has this status, and no other one than ``others``."""
    async with asyncio.timeout(20):
        while (found := (await client.post(path_of(name), BODY)).status) != status:
            assert found in others
            await asyncio.sleep(0.02)


def _inputs(values: Sequence[float]) -> dict[str, Any]:
    return {
        "past_target": np.array([values], np.float32),
        "sequence_lens": np.array([len(values)], np.int32),
    }
