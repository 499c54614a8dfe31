"""Stopping loses nothing, and a lost process is replaced."""

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.client import Client, LostRequestError
from tests.e2e.service import Service, serving
from tests.waiting import until

FORECAST = "/v1/models/tiny/forecast"
BODY = {"series": [{"target": [float(n % 12 + 1) for n in range(120)]}]}
NUM_CLIENTS = 200
NUM_STOPS = 5


class Load:
    """Keep-alive clients that send one request after the other and count what becomes of each."""

    def __init__(self, service: Service, num_clients: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self.slowest_s = 0.0
        self._service = service
        self._num_clients = num_clients
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self._tasks = [asyncio.create_task(self._call()) for _ in range(self._num_clients)]
        await until(lambda: self.outcomes["200"] > self._num_clients)

    async def finish(self) -> None:
        """Wait until every client has found the service gone."""
        await asyncio.wait_for(asyncio.gather(*self._tasks), 40)

    async def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _call(self) -> None:
        async with Client(self._service.port) as client:
            while True:
                started = time.monotonic()
                try:
                    answer = await client.post(FORECAST, BODY)
                except LostRequestError:
                    self.outcomes["lost"] += 1
                    continue
                except OSError:  # nobody listens any more
                    self.outcomes["refused"] += 1
                    return
                self.slowest_s = max(self.slowest_s, time.monotonic() - started)
                self.outcomes[str(answer.status)] += 1
                if answer.status == 503:
                    assert "retry-after" in answer.headers
                    await asyncio.sleep(0.05)


@pytest.mark.timeout(180)
async def test_stopping_under_load_loses_no_request(tiny_repository: Path) -> None:
    for _ in range(NUM_STOPS):
        async with serving(tiny_repository, access_log=False) as service:
            load = Load(service, NUM_CLIENTS)
            await load.start()
            status = await service.stop()
            await load.finish()
        assert status == 0
        assert load.outcomes["lost"] == 0
        assert set(load.outcomes) <= {"200", "refused"} | {"lost"}


async def test_readiness_is_red_at_once_and_liveness_stays_green(tiny_repository: Path) -> None:
    async with serving(tiny_repository) as service, Client(service.port) as client:
        assert (await client.get("/readyz")).status == 200
        service.process.send_signal(signal.SIGTERM)

        async def is_red() -> bool:
            return (await client.get("/readyz")).status == 503

        started = time.monotonic()
        while not await is_red():
            assert time.monotonic() - started < 1
        assert (await client.get("/livez")).status == 200
        assert (await client.post(FORECAST, BODY)).headers["connection"] == "close"


async def test_interrupt_ends_an_idle_service_without_the_drain_delay(tiny_repository: Path) -> None:
    async with serving(tiny_repository) as service:
        assert await service.stop(signal.SIGINT) == 0


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
async def test_lost_runner_is_replaced_and_nobody_hangs(
    tiny_repository: Path, number: signal.Signals
) -> None:
    async with serving(tiny_repository, access_log=False) as service:
        load = Load(service, 32)
        await load.start()
        (runner,) = service.runners
        os.kill(runner, number)
        lost_at = time.monotonic()
        await until(lambda: runner not in service.runners and len(service.runners) == 1)
        load.outcomes.clear()
        await until(lambda: load.outcomes["200"] > 100)
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
