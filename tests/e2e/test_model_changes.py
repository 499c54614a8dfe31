"""Models that change while a real service answers."""

import asyncio
import hashlib
import os
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tritonclient.http import aio
from tritonclient.utils import InferenceServerException

from app.artifact.directory import MODEL_FILE
from tests.e2e.client import Client
from tests.e2e.service import Service, serving, serving_at_full_speed, write_model
from tests.e2e.traffic import BODY, path_of
from tests.tiny_artifact import tiny_artifact

NUM_CLIENTS = 4
NUM_SWAPS = 4
FORECAST = path_of("tiny")
LOAD = "/v2/repository/models/tiny/load"


def publish(directory: Path, version: int, model: bytes) -> None:
    """Write a version beside its place, then move it there."""
    staged = directory / f"staged-{version}"
    staged.mkdir()
    (staged / MODEL_FILE).write_bytes(model)
    staged.rename(directory / "tiny" / str(version))


class Callers:
    """Clients that ask without a pause and keep every answer by the version that gave it."""

    def __init__(self, service: Service) -> None:
        self.answers: defaultdict[int, set[str]] = defaultdict(set)
        self.statuses: set[int] = set()
        self.num_answers = 0
        self.slowest_s = 0.0
        self._service = service
        self._is_stopped = False

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[None]:
        calls = [asyncio.create_task(self._call()) for _ in range(NUM_CLIENTS)]
        try:
            yield
        finally:
            self._is_stopped = True
            await asyncio.gather(*calls)

    async def _call(self) -> None:
        async with Client(self._service.port) as client:
            while not self._is_stopped:
                started = time.monotonic()
                answer = await client.post(FORECAST, BODY)
                self.slowest_s = max(self.slowest_s, time.monotonic() - started)
                self.num_answers += 1
                self.statuses.add(answer.status)
                content = answer.json()
                self.answers[content["model_version"]].add(str(content["forecasts"]))


def odd_and_even(answers: Mapping[int, set[str]]) -> list[set[str]]:
    """Gather the answers of every other sound version; these are 2 apart."""
    return [
        {
            answer
            for version, given in answers.items()
            if version // 2 % 2 == half
            for answer in given
        }
        for half in (0, 1)
    ]


@pytest.mark.timeout(240)
async def test_swaps_under_load_lose_no_request_and_mix_no_versions(tmp_path: Path) -> None:
    sound = [tiny_artifact(context_length=512), tiny_artifact(context_length=512, hidden_size=6)]
    write_model(tmp_path, sound[1])
    settings = {"model_control": "explicit", "retire_after_s": 0.3, "access_log": False}
    settings |= {"gateways": 2, "runners": 2}
    async with serving_at_full_speed(tmp_path, **settings) as service:
        callers = Callers(service)
        async with callers.calling(), Client(service.port) as admin:
            for number in range(NUM_SWAPS):
                publish(tmp_path, 2 * number + 2, sound[number % 2])
                assert (await admin.post(LOAD, {})).status == 200
                publish(tmp_path, 2 * number + 3, sound[0][:-7])
                refused = await admin.post(LOAD, {})
                assert refused.status == 400
                assert "is refused: " in refused.json()["error"]
    assert callers.statuses == {200}
    assert len(callers.answers) == NUM_SWAPS + 1
    assert all(len(answers) == 1 for answers in callers.answers.values())
    first, second = odd_and_even(callers.answers)
    assert (len(first), len(second)) == (1, 1)
    assert first != second


async def test_every_answer_names_the_file_that_gave_it(tmp_path: Path) -> None:
    path = write_model(tmp_path, tiny_artifact(context_length=512))
    async with serving(tmp_path) as service, Client(service.port) as client:
        native = await client.post(FORECAST, BODY)
        inputs = [{"name": "past_target", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]
        tensors = await client.post("/v2/models/tiny/infer", {"inputs": inputs})
        listed = await client.get("/v1/models")
    digest = f"sha256={hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert native.headers["x-model-digest"] == tensors.headers["x-model-digest"] == digest
    assert "x-model-digest" not in listed.headers


async def test_polled_folder_is_followed(tmp_path: Path) -> None:
    write_model(tmp_path, tiny_artifact(context_length=512))
    async with (
        serving(tmp_path, model_control="poll", poll_interval_s=0.1) as service,
        Client(service.port) as client,
    ):
        publish(tmp_path, 2, tiny_artifact(context_length=512))
        async with asyncio.timeout(30):
            while (await client.post(FORECAST, BODY)).json()["model_version"] != 2:
                await asyncio.sleep(0.05)


async def test_runner_that_comes_back_sees_what_was_published_meanwhile(tmp_path: Path) -> None:
    write_model(tmp_path, tiny_artifact(context_length=512))
    async with (
        serving(tmp_path, model_control="poll", poll_interval_s=0.1) as service,
        Client(service.port) as client,
    ):
        (runner,) = service.runners
        os.kill(runner, signal.SIGKILL)
        publish(tmp_path, 2, tiny_artifact(context_length=512))
        async with asyncio.timeout(30):
            while (await client.post(FORECAST, BODY)).json().get("model_version") != 2:
                await asyncio.sleep(0.05)


async def test_replaced_runner_serves_what_the_lost_one_served(tmp_path: Path) -> None:
    for name in ("tiny", "other"):
        write_model(tmp_path, tiny_artifact(context_length=512), name=name)
    async with (
        serving(tmp_path, model_control="explicit") as service,
        Client(service.port) as client,
    ):
        unloaded = await client.post("/v2/repository/models/other/unload", {})
        publish(tmp_path, 2, tiny_artifact(context_length=512))
        (runner,) = service.runners
        os.kill(runner, signal.SIGKILL)
        await service.wait_for_another_runner(than=runner)
        async with asyncio.timeout(30):
            while (await client.get("/readyz")).status != 200:
                await asyncio.sleep(0.05)
        models = (await client.get("/v1/models")).json()["models"]
    assert unloaded.status == 200
    assert [(m["model_name"], m["model_version"]) for m in models] == [("tiny", 1)]


class Counter:
    """Reads how many requests of ``tiny`` the metrics count, and remembers every number."""

    def __init__(self, client: Client) -> None:
        self.read: list[int] = []
        self._client = client

    async def look(self) -> None:
        text = (await self._client.get("/metrics")).body.decode()
        name = 'nv_inference_request_success{model="tiny",version="1"}'
        self.read.append(int(text.partition(f"{name} ")[2].split()[0]))

    async def wait_for(self, count: int) -> None:
        """Look until ``count`` is reached: a busy runner is counted as of its last beat."""
        async with asyncio.timeout(60):
            while not self.read or self.read[-1] < count:
                await self.look()
                await asyncio.sleep(0.05)


async def test_counts_never_go_down_when_a_runner_is_lost(tmp_path: Path) -> None:
    write_model(tmp_path, tiny_artifact(context_length=512))
    async with serving(tmp_path, runners=2) as service, Client(service.port) as client:
        counter = Counter(client)
        for _ in range(10):
            await client.post(FORECAST, BODY)
        await counter.wait_for(10)
        lost = service.runners[0]
        os.kill(lost, signal.SIGKILL)
        async with asyncio.timeout(60):
            while lost in service.runners or len(service.runners) < 2:
                await counter.look()
                await asyncio.sleep(0.05)
        await client.post(FORECAST, BODY)
        await counter.wait_for(11)
    assert counter.read == sorted(counter.read)
    assert counter.read[-1] == 11


async def test_tritonclient_loads_and_unloads(tmp_path: Path) -> None:
    write_model(tmp_path, tiny_artifact(context_length=512))
    async with (
        serving(tmp_path, model_control="explicit") as service,
        aio.InferenceServerClient(f"127.0.0.1:{service.port}") as client,
    ):
        await client.unload_model("tiny")
        assert await client.get_model_repository_index() == []
        assert not await client.is_model_ready("tiny")
        await client.load_model("tiny")
        assert await client.is_model_ready("tiny")
        (entry,) = await client.get_model_repository_index()
        with pytest.raises(InferenceServerException, match="no version of this model"):
            await client.load_model("nobody")
    assert (entry["name"], entry["version"], entry["state"]) == ("tiny", "1", "READY")
    assert len(entry["sha256"]) == 64
