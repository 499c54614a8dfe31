"""Bulk jobs on a real service: whatever is lost meanwhile, their results have the same bytes."""

import asyncio
import os
import random
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.client import Client
from tests.e2e.service import Service, serving
from tests.e2e.traffic import BODY, path_of

CSV = {"content-type": "text/csv"}
CREATE = "/v1/jobs?model_name=tiny&horizon=2&freq=M&output_format=csv"
SEED = 7
NUM_SERIES = 3072
SETTINGS = {"max_batch_size": 1, "access_log": False}
"""One series a model run: the time of a job is in many small steps."""

EVENTS = ["worker lost", "runner lost", "service killed", "service stopped"]


def make_file(num_series: int) -> bytes:
    rows = (
        f"s{index:05},2024-{month:02}-01,{index % 97 + month}\n"
        for index in range(num_series)
        for month in (1, 2)
    )
    return ("item_id,timestamp,target\n" + "".join(rows)).encode()


async def create(client: Client, file: bytes) -> str:
    answer = await client.send("POST", CREATE, file, CSV)
    assert answer.status == 202, answer.body
    return answer.headers["location"]


async def wait_until_done(client: Client, path: str, num_done: int) -> dict[str, Any]:
    """Return the job once so many of its series are done, or it is finished."""
    async with asyncio.timeout(60):
        while True:
            job: dict[str, Any] = (await client.get(path)).json()
            if job["num_done"] >= num_done or job["finished_at"]:
                return job
            await asyncio.sleep(0.01)


async def finish(client: Client, path: str) -> bytes:
    job = await wait_until_done(client, path, NUM_SERIES + 1)
    assert (job["state"], job["error"], job["num_done"]) == ("succeeded", "", NUM_SERIES)
    return (await client.get(f"{path}/result")).body


async def bring_about(event: str, service: Service) -> bool:
    """Lose something; return whether the service still runs."""
    if event == "worker lost":
        os.kill(service.children("app.jobs.worker")[0], signal.SIGKILL)
        return True
    if event == "runner lost":
        os.kill(service.runners[0], signal.SIGKILL)
        return True
    if event == "service stopped":
        assert await service.stop() == 0
        return False
    for pid in [service.process.pid, *service.children("app.")]:
        os.kill(pid, signal.SIGKILL)
    await service.process.wait()
    return False


async def lose_in_turn(
    waiting: list[tuple[int, str]], service: Service, client: Client, path: str
) -> bool:
    """Bring about what waits, each at its moment, until the service ends or nothing is left."""
    while waiting:
        moment, event = waiting.pop(0)
        job = await wait_until_done(client, path, moment)
        assert job["state"] in {"queued", "running"}
        if not await bring_about(event, service):
            return False
    return True


async def run_beside_live(client: Client, file: bytes) -> bytes:
    """Run a job that loses nothing, and ask for forecasts meanwhile."""
    path = await create(client, file)
    await wait_until_done(client, path, 1)
    answers = [await client.post(path_of("tiny"), BODY) for _ in range(20)]
    assert [answer.status for answer in answers] == [200] * 20
    return await finish(client, path)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "events",
    [
        pytest.param(EVENTS, id="each once"),
        pytest.param(["service killed"] * 10, id="ten kills", marks=pytest.mark.slow),
    ],
)
async def test_result_has_the_same_bytes_whatever_is_lost(
    tiny_repository: Path, tmp_path: Path, events: Sequence[str]
) -> None:
    chance = random.Random(SEED)
    moments = sorted(chance.randrange(1, NUM_SERIES // 2) for _ in events)
    waiting = list(zip(moments, events, strict=True))
    file, path, results = make_file(NUM_SERIES), "", list[bytes]()
    while not results:
        async with (
            serving(tiny_repository, jobs_directory=tmp_path, **SETTINGS) as service,
            Client(service.port) as client,
        ):
            path = path or await create(client, file)
            if await lose_in_turn(waiting, service, client, path):
                results = [await finish(client, path), await run_beside_live(client, file)]
    rows = results[0].decode().splitlines()[1:]
    assert results[0] == results[1]
    assert [row.split(",")[0].strip('"') for row in rows[::2]] == [
        f"s{index:05}" for index in range(NUM_SERIES)
    ]
    assert len(rows) == 2 * NUM_SERIES
