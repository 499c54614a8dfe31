"""Measures what the service does under more load than it can carry: python -m benchmarks.overload.

The server runs on core 0, the load on core 1. Capacity is what a closed loop with 64 series on
their way gets, just before and just after, since machines are shared. An open loop then sends three
times as much, and every request is accounted for: answered, refused or lost; all answers are
checked. Then: a modest key beside one that floods, and small requests beside one of 1,000 series.
``--only`` names a case. Prints figures and writes benchmarks/results/overload.json.
"""

import argparse
import asyncio
import contextlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np
import uvloop

from app.keys import create_key
from benchmarks.environment import describe_environment
from benchmarks.serving.load import (
    TOLERANCE,
    Request,
    difference_of,
    send_for,
    tensor_requests,
    with_header,
)
from benchmarks.serving.models import lstm_model
from benchmarks.serving.open_loop import LOST, OpenLoop, Outcome, Phase
from benchmarks.serving.raw import RawModel
from benchmarks.serving.servers import CACHE, LOAD_CORE, ROOT, Server, pinned, serving

RESULTS = ROOT / "benchmarks" / "results" / "overload.json"
LENGTH = 96
NUM_SERIES = 64
"""On their way at a time while the capacity is measured: enough for full runs."""
FACTOR = 3.0
LIGHT = 0.4
CAPACITY_S, OVERLOAD_S, AFTER_S, BESIDE_S = 4.0, 10.0, 10.0, 10.0
SLOW_MS = 250.0
"""After the load, an answer that takes longer is not that of a service that has recovered."""

Figures = dict[str, float | int | str]


class Models:
    """The file that is served, and what it must answer."""

    def __init__(self, hidden_size: int) -> None:
        self.hidden_size = hidden_size
        self.run = RawModel.plain(hidden_size).run

    @contextlib.asynccontextmanager
    async def serve(self, *options: str) -> AsyncIterator[Server]:
        """Serve it as model ``m``."""
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "m" / "1" / "model.onnx"
            path.parent.mkdir(parents=True)
            path.write_bytes(lstm_model(self.hidden_size, has_lengths=True))
            async with serving("gatecast", path, *options) as server:
                with pinned(LOAD_CORE):
                    yield server


async def measure_capacity(
    server: Server, requests: Sequence[Request], rows: int = 1
) -> tuple[float, float]:
    """Return requests/s of a closed loop, and requests for each second of processor time."""
    num_clients = NUM_SERIES // rows
    await send_for(1, server.port, requests, num_clients)
    used = sum(server.cpu_seconds().values())
    sent = await send_for(CAPACITY_S, server.port, requests, num_clients)
    used = sum(server.cpu_seconds().values()) - used
    assert not sent["errors"], sent
    return sent["requests"] / sent["seconds"], sent["requests"] / used


async def measure_overload(hidden_size: int, rows: int) -> Figures:
    """Send three times the capacity, then a part of it."""
    models = Models(hidden_size)
    requests = tensor_requests(models.run, [LENGTH], rows=rows)
    async with models.serve() as server:
        before, frugality_before = await measure_capacity(server, requests, rows)
        phases = [Phase(FACTOR * before, OVERLOAD_S), Phase(LIGHT * before, AFTER_S)]
        used = server.cpu_seconds()
        sending = asyncio.create_task(OpenLoop(server.port, requests, phases).run())
        await asyncio.sleep(OVERLOAD_S)
        used = {name: value - used[name] for name, value in server.cpu_seconds().items()}
        outcomes = await sending
        after, frugality_after = await measure_capacity(server, requests, rows)
    capacity, frugality = (before + after) / 2, (frugality_before + frugality_after) / 2
    during = [one for one in outcomes if one.due_s < OVERLOAD_S]
    good = count_answered(during, until_s=OVERLOAD_S)
    bad_since = [one.due_s for one in outcomes if one.due_s >= OVERLOAD_S and is_bad(one)]
    return {
        "capacity, requests/s": round(capacity),
        "asked for, times capacity": round(len(during) / OVERLOAD_S / capacity, 2),
        "goodput, share of capacity": round(good / OVERLOAD_S / capacity, 3),
        "the same per processor second": round(good / sum(used.values()) / frugality, 3),
        **{f"{name}, share of a core": round(s / OVERLOAD_S, 2) for name, s in used.items()},
        **account(during),
        "recovered after, s": round(max(bad_since, default=OVERLOAD_S) - OVERLOAD_S, 2),
    }


async def measure_fairness() -> Figures:
    """Send a modest stream with one key, alone and beside a flood with another."""
    models = Models(128)
    requests = tensor_requests(models.run, [LENGTH])
    keys = [create_key(), create_key()]
    modest, greedy = ([with_header(r, "X-API-Key", k.text) for r in requests] for k in keys)
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("\n".join(key.line for key in keys))
        file.flush()
        async with models.serve(f"--api-keys-file={file.name}") as server:
            capacity, _ = await measure_capacity(server, modest)
            phase, flood = Phase(LIGHT * capacity, BESIDE_S), Phase(FACTOR * capacity, BESIDE_S)
            alone = await OpenLoop(server.port, modest, [phase], seed=1).run()
            beside, flooding = await asyncio.gather(
                OpenLoop(server.port, modest, [phase], seed=1).run(),
                OpenLoop(server.port, greedy, [flood], seed=2).run(),
            )
    return {
        "capacity, requests/s": round(capacity),
        "modest key asks for, share of capacity": LIGHT,
        "other key asks for, times capacity": FACTOR,
        **{f"modest alone: {name}": value for name, value in account(alone).items()},
        **{f"modest beside: {name}": value for name, value in account(beside).items()},
        **{f"flood: {name}": value for name, value in account(flooding).items()},
    }


async def measure_large() -> Figures:
    """Send small requests alone, and beside one of 1,000 series that comes again and again."""
    models = Models(128)
    requests = tensor_requests(models.run, [LENGTH])
    large = tensor_requests(models.run, [LENGTH], rows=1000, is_binary=True)
    async with models.serve() as server:
        capacity, _ = await measure_capacity(server, requests)
        phase = Phase(LIGHT * capacity, BESIDE_S)
        alone = await OpenLoop(server.port, requests, [phase]).run()
        large_alone = await send_for(BESIDE_S / 2, server.port, large, 1)
        beside, large_beside = await asyncio.gather(
            OpenLoop(server.port, requests, [phase]).run(),
            send_for(BESIDE_S, server.port, large, 1),
        )
    return {
        "small requests ask for, share of capacity": LIGHT,
        **{f"small alone: {name}": value for name, value in account(alone).items()},
        **{f"small beside: {name}": value for name, value in account(beside).items()},
        "large alone, series/s": round(1000 * large_alone["requests"] / large_alone["seconds"]),
        "large beside, series/s": round(1000 * large_beside["requests"] / large_beside["seconds"]),
        "large, errors": int(large_alone["errors"] + large_beside["errors"]),
    }


def account(outcomes: Sequence[Outcome]) -> Figures:
    """Say what became of every request, and check the answers."""
    statuses = Counter(one.status for one in outcomes)
    answered = [one for one in outcomes if one.status == 200]
    refused = [one for one in outcomes if one.status == 503]
    figures: Figures = {
        "sent": len(outcomes),
        "answered": len(answered),
        "refused": len(refused),
        "lost": statuses[LOST],
        "others": sum(statuses.values()) - len(answered) - len(refused) - statuses[LOST],
        "wrong": sum(map(is_wrong, answered)),
        "without Retry-After": sum(not one.has_retry_after for one in refused),
    }
    lag_s = np.percentile([one.lag_s for one in outcomes], 99)
    figures["sender behind p99, ms"] = round(1000 * float(lag_s), 1)
    for name, group in (("answer", answered), ("refusal", refused)):
        if group:
            p50, p99 = np.percentile([1000 * one.latency_s for one in group], (50, 99))
            figures |= {f"{name} p50, ms": round(p50, 1), f"{name} p99, ms": round(p99, 1)}
    return figures


def count_answered(outcomes: Sequence[Outcome], until_s: float) -> int:
    """Count the good answers that came before ``until_s``."""
    return sum(one.status == 200 and one.due_s + one.latency_s < until_s for one in outcomes)


def is_bad(outcome: Outcome) -> bool:
    """Whether an outcome is not one of a service that has recovered."""
    return outcome.status != 200 or 1000 * outcome.latency_s > SLOW_MS


def is_wrong(outcome: Outcome) -> bool:
    """Compare an answer with what the model gives alone."""
    head = outcome.head.replace(b"Content-Length", b"content-length")
    return not difference_of(outcome.request, head, outcome.body) < TOLERANCE


CASES: dict[str, Callable[[], Awaitable[Figures]]] = {
    "3 x capacity, LSTM-128, 1 series": lambda: measure_overload(128, 1),
    "3 x capacity, LSTM-128, 16 series": lambda: measure_overload(128, 16),
    "3 x capacity, LSTM-512, 1 series": lambda: measure_overload(512, 1),
    "two keys": measure_fairness,
    "1000 series beside small": measure_large,
}


async def main() -> None:
    """Measure all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    only = parser.parse_args().only
    results: dict[str, Figures] = {}
    for name, measure in CASES.items():
        if only in name:
            results[name] = await measure()
            results[name]["load of the machine, 1 min"] = round(os.getloadavg()[0], 1)
            print(name, json.dumps(results[name], indent=1), flush=True)
    if not only:
        content = {"environment": describe_environment(), "results": results}
        RESULTS.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    uvloop.run(main())
