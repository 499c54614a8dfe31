"""A real service on the device: large requests, many small ones, ragged ones, and a lost runner."""

import asyncio
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.runner.loading import load_engine
from benchmarks.gpu.device import used_memory_mib
from benchmarks.gpu.engines import OUTPUTS, raw_rate
from benchmarks.gpu.plan import PARITY, STEPS, Plan, Row, show
from benchmarks.gpu.sender import send
from benchmarks.serving.load import (
    Request,
    difference_of,
    largest_difference,
    send_once,
    tensor_requests,
)
from benchmarks.serving.models import lstm_model
from benchmarks.serving.open_loop import LOST, OpenLoop, Outcome, Phase
from tests.e2e.service import Service, serving_container, write_model

KINDS: Mapping[str, Mapping[str, object]] = {
    "as set by default": {},
    "two slots": {"gpu_run_slots": 2},
    "no buckets": {"gpu_buckets": False},
    "bindings": {"gpu_io_binding": True},
    "bindings, two slots": {"gpu_io_binding": True, "gpu_run_slots": 2},
}
"""Settings that are compared."""

_LARGE_CLIENTS = 16
_NUM_GATEWAYS = 4
_SHORTEST = 24
_STATUS_OK = 200
_LARGE = {"max_batch_size": 1024, "max_batch_steps": 1_048_576}
"""Bounds of a run; those by default were measured on CPU cores."""


async def measure_services(plan: Plan) -> None:
    """Measure everything over HTTP; every kind of request is checked first."""
    first = plan.scale.hidden_sizes[0]
    for size in plan.scale.hidden_sizes:
        kinds = KINDS if size == first else dict(list(KINDS.items())[:2])
        name = f"{plan.scale.rows} series a request, binary, LSTM-{size}"
        await plan.section(name, partial(_measure_large, plan, size, kinds))
    name = "one series a request, JSON, by gateways"
    await plan.section(name, partial(_measure_gateways, plan, first))
    name = f"one series a request, JSON, by clients, {_NUM_GATEWAYS} gateways"
    await plan.section(name, partial(_measure_clients, plan, first))
    name = f"lengths from {_SHORTEST} to {plan.scale.max_length}, JSON"
    await plan.section(name, partial(_measure_ragged, plan, first))
    await plan.section("a runner that is killed", partial(_kill_runner, plan, first))


async def _measure_large(
    plan: Plan, size: int, kinds: Mapping[str, Mapping[str, object]], rows: list[Row]
) -> None:
    raw = raw_rate(plan, size)
    requests = tensor_requests(_runs(plan, size), [STEPS], rows=plan.scale.rows, is_binary=True)
    for name, options in kinds.items():
        if plan.is_over:
            return
        async with _serving(plan, size, **_LARGE, **options) as service:
            row: Row = {"with": name, **await _load(plan, service, requests, _LARGE_CLIENTS)}
        rate = plan.scale.rows * row.pop("requests/s")
        show(rows, row | {"series/s": rate, "raw series/s": raw, "share of raw": rate / raw})


async def _measure_gateways(plan: Plan, size: int, rows: list[Row]) -> None:
    requests = tensor_requests(_runs(plan, size), [STEPS])
    for num_gateways in plan.scale.gateways:
        if plan.is_over:
            return
        async with _serving(plan, size, **_LARGE, gateways=num_gateways) as service:
            found = await _load(plan, service, requests, plan.scale.clients[-1])
        show(rows, {"gateways": num_gateways, **found})


async def _measure_clients(plan: Plan, size: int, rows: list[Row]) -> None:
    requests = tensor_requests(_runs(plan, size), [STEPS])
    async with _serving(plan, size, **_LARGE) as service:
        for num_clients in plan.scale.clients:
            if plan.is_over:
                return
            found = await _load(plan, service, requests, num_clients)
            show(rows, {"clients": num_clients, **found})


async def _measure_ragged(plan: Plan, size: int, rows: list[Row]) -> None:
    lengths = np.random.default_rng(1).integers(_SHORTEST, plan.scale.max_length, 128).tolist()
    requests = tensor_requests(_runs(plan, size), lengths)
    for name in ("as set by default", "no buckets"):
        if plan.is_over:
            return
        async with _serving(plan, size, **_LARGE, **KINDS[name]) as service:
            found = await _load(plan, service, requests, min(64, plan.scale.clients[-1]))
        show(rows, {"with": name, **found})


async def _kill_runner(plan: Plan, size: int, rows: list[Row]) -> None:
    """Send all the while, at a rate that is no load, and look at every answer."""
    requests = tensor_requests(_runs(plan, size), [STEPS])
    seconds = 6 * plan.scale.seconds
    async with _serving(plan, size) as service:
        await send_once(service.port, requests, 4)
        load = OpenLoop(service.port, requests, [Phase(100, seconds)])
        kill = partial(_kill, service)
        outcomes = await _run_and_kill(load, seconds / 4, kill)
    answered = [one for one in outcomes if one.status == _STATUS_OK]
    wrong = [one for one in answered if not _is_right(one)]
    failed = [one.due_s for one in outcomes if one.status != _STATUS_OK]
    statuses = Counter(str(one.status) for one in outcomes)
    row: Row = {"sent": len(outcomes), **{f"status {k}": n for k, n in sorted(statuses.items())}}
    row |= {"lost": statuses[str(LOST)], "wrong": len(wrong)}
    show(rows, row | {"seconds of refusals": max(failed) - min(failed) if failed else 0.0})


async def _run_and_kill(load: OpenLoop, after_s: float, kill: Callable[[], None]) -> list[Outcome]:
    running = asyncio.create_task(load.run())
    await asyncio.sleep(after_s)
    kill()
    return await running


def _kill(service: Service) -> None:
    os.kill(service.runners[0], signal.SIGKILL)


def _is_right(outcome: Outcome) -> bool:
    return difference_of(outcome.request, outcome.head, outcome.body) <= PARITY


async def _load(plan: Plan, service: Service, requests: list[Request], num_clients: int) -> Row:
    """Check every answer, then send for some time."""
    answers = await send_once(service.port, requests, min(8, num_clients))
    found = largest_difference(requests, answers)
    scale = plan.scale
    contents = [request.content for request in requests]
    sent = await send(service.port, contents, num_clients, scale.seconds, scale.num_senders)
    return {**sent, "difference": found, "used MiB": used_memory_mib(plan.device)}


def _runs(plan: Plan, size: int) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return what says how a request must be answered: the engine alone, on the same device."""
    engine = load_engine(lstm_model(size, has_lengths=True), plan.device)

    def run(history: NDArray[np.float32]) -> NDArray[np.float32]:
        lengths = np.full(len(history), history.shape[1], np.int32)
        inputs = {"history": history, "sequence_lens": lengths}
        forecast: NDArray[np.float32] = engine.run(inputs, OUTPUTS)["forecast"]
        return forecast

    return run


@asynccontextmanager
async def _serving(plan: Plan, size: int, **settings: object) -> AsyncIterator[Service]:
    given = {
        "device": plan.device,
        "gateways": _NUM_GATEWAYS if plan.device == "cuda" else 1,
        "access_log": False,
        "log_level": "error",
        "drain_delay_s": 0.1,
        **settings,
    }
    environment = {f"GATECAST_{name.upper()}": str(value) for name, value in given.items()}
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder), lstm_model(size, has_lengths=True), name="m")
        options = (f"--model-repository={folder}", "--port=0")
        async with serving_container(environment, *options) as service:
            print(f"   (ready after {time.perf_counter() - began:.1f} s)", flush=True)
            yield service
