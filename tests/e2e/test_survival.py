"""Stopping loses nothing, and a lost process is replaced."""

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.client import Client
from tests.e2e.service import serving, serving_at_full_speed
from tests.e2e.traffic import BODY, Load, path_of
from tests.waiting import until

FORECAST = path_of("tiny")
NUM_CLIENTS = 200
NUM_STOPS = 2


@pytest.mark.timeout(180)
async def test_stopping_under_load_loses_no_request(tiny_repository: Path) -> None:
    for _ in range(NUM_STOPS):
        settings = {"access_log": False, "drain_delay_s": 1}
        async with serving_at_full_speed(tiny_repository, **settings) as service:
            load = Load(service, "tiny", NUM_CLIENTS)
            await load.start()
            status = await service.stop()
            await load.finish()
        assert status == 0
        assert load.outcomes["lost"] == 0
        assert set(load.outcomes) <= {"200", "refused"} | {"lost"}


async def test_readiness_is_red_at_once_and_liveness_stays_green(tiny_repository: Path) -> None:
    settings = {"drain_delay_s": 2}
    async with serving(tiny_repository, **settings) as service, Client(service.port) as client:
        assert (await client.get("/readyz")).status == 200
        service.process.send_signal(signal.SIGTERM)

        async def is_red() -> bool:
            return (await client.get("/readyz")).status == 503

        started = time.monotonic()
        while not await is_red():
            assert time.monotonic() - started < 1
        assert (await client.get("/livez")).status == 200
        assert (await client.post(FORECAST, BODY)).headers["connection"] == "close"


async def test_interrupt_ends_an_idle_service_without_the_drain_delay(
    tiny_repository: Path,
) -> None:
    async with serving(tiny_repository, drain_delay_s=60) as service:
        assert await service.stop(signal.SIGINT) == 0


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
async def test_lost_runner_is_replaced_and_nobody_hangs(
    tiny_repository: Path, number: signal.Signals
) -> None:
    async with serving(tiny_repository, access_log=False) as service:
        load = Load(service, "tiny", 32)
        await load.start()
        (runner,) = service.runners
        os.kill(runner, number)
        lost_at = time.monotonic()
        await service.wait_for_another_runner(than=runner)
        await load.wait_for_answers(load.outcomes["200"] + 100)
        whole_after_s = time.monotonic() - lost_at
        await load.cancel()
        async with Client(service.port) as client:
            metrics = (await client.get("/metrics")).body.decode()
    assert set(load.outcomes) <= {"200", "503"}
    assert load.slowest_s < 10
    assert whole_after_s < 15
    assert 'gatecast_runner_restarts_total{runner="0"} 1.0' in metrics


async def test_lost_gateway_is_replaced(tiny_repository: Path) -> None:
    async with serving(tiny_repository) as service:
        (gateway,) = service.gateways
        os.kill(gateway, signal.SIGKILL)
        await until(lambda: gateway not in service.gateways and len(service.gateways) == 1)
        async with Client(service.port) as client:
            assert (await client.get("/livez")).status == 200


async def test_children_end_when_the_supervisor_is_killed(tiny_repository: Path) -> None:
    async with serving(tiny_repository) as service:
        children = service.runners + service.gateways
        service.process.kill()
        await until(lambda: not any(map(_is_running, children)))


def _is_running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return " Z " not in Path(f"/proc/{pid}/stat").read_text().replace(")", ") ", 1)
    return False
