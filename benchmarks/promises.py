"""Measures what the service promises, on the starter model: python -m benchmarks.promises.

Prints a table and writes benchmarks/results/promises.json.
"""

import asyncio
import gzip
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np

from app.artifact.directory import MODEL_FILE
from app.artifact.golden_case import relative_error
from app.runner.engine import OrtEngine
from benchmarks.environment import describe_environment
from tests.e2e.client import Client
from tests.e2e.service import Service, serving
from tests.e2e.traffic import Load, forecast_all, make_requests, path_of, quantiles_of

ROOT = Path(__file__).parent.parent
REPOSITORY = ROOT / "model_repository"
RESULTS = ROOT / "benchmarks" / "results" / "promises.json"
NUM_REQUESTS = 5000
NUM_SHARING = 64
NUM_STOPS = 5
NUM_STOPPED_CLIENTS = 200
NUM_KILLS = 5
NUM_KILLED_CLIENTS = 32
NUM_REFUSALS = 9
SETTINGS = {"access_log": False, "state_cache_bytes": 0}

Figures = dict[str, float | int | str]


async def measure_batching() -> Figures:
    """Send the same requests 64 at a time and one by one, and compare the answers."""
    requests = make_requests(NUM_REQUESTS)
    async with serving(REPOSITORY, **SETTINGS) as service:
        together = await forecast_all(service, "monthly", requests, num_clients=NUM_SHARING)
        alone = await forecast_all(service, "monthly", requests, num_clients=1)
    pairs = [(quantiles_of(a), quantiles_of(b)) for a, b in zip(together, alone, strict=True)]
    names = [answer["forecasts"][0]["item_id"] for answer in together]
    return {
        "requests": NUM_REQUESTS,
        "at a time": NUM_SHARING,
        "largest relative difference": max(relative_error(a, b) for a, b in pairs),
        "bit-equal": sum(np.array_equal(a, b) for a, b in pairs),
        "swapped": sum(name != str(number) for number, name in enumerate(names)),
    }


async def measure_stopping() -> Figures:
    """Stop the service under load and count what was sent and never answered."""
    lost = answered = 0
    slowest_s = 0.0
    for _ in range(NUM_STOPS):
        async with serving(REPOSITORY, **SETTINGS) as service:
            load = Load(service, "monthly", NUM_STOPPED_CLIENTS)
            await load.start()
            started = time.monotonic()
            status = await service.stop()
            slowest_s = max(slowest_s, time.monotonic() - started)
            await load.finish()
        assert status == 0
        lost += load.outcomes["lost"]
        answered += load.outcomes["200"]
    return {
        "stops": NUM_STOPS,
        "clients": NUM_STOPPED_CLIENTS,
        "answered": answered,
        "lost": lost,
        "longest stop, s": round(slowest_s, 2),
    }


async def measure_replacing(number: signal.Signals) -> Figures:
    """Take the runner away under load and time how long forecasts fail."""
    outages: list[float] = []
    slowest_s = 0.0
    statuses: set[str] = set()
    for _ in range(NUM_KILLS):
        async with serving(REPOSITORY, **SETTINGS) as service:
            load = Load(service, "monthly", NUM_KILLED_CLIENTS)
            await load.start()
            (runner,) = service.runners
            taken_at = time.monotonic()
            os.kill(runner, number)
            await service.wait_for_another_runner(than=runner)
            await load.wait_for_answers(load.outcomes["200"] + NUM_KILLED_CLIENTS)
            outages.append(time.monotonic() - taken_at)
            await load.cancel()
            slowest_s = max(slowest_s, load.slowest_s)
            statuses |= load.outcomes.keys()
    return {
        "times": NUM_KILLS,
        "median until whole, s": round(float(np.median(outages)), 2),
        "longest until whole, s": round(max(outages), 2),
        "slowest answer, s": round(slowest_s, 2),
        "answers": ", ".join(sorted(statuses)),
    }


def bad_requests() -> dict[str, tuple[str, bytes, dict[str, str]]]:
    """Return what a caller may do wrong: a name, then model, body and headers of the request."""
    levels = json.dumps([round(0.1 + number / 300, 4) for number in range(200)])
    good = b'{"series": [{"target": [1, 2, 3]}]}'
    bodies = {
        "empty request": b"",
        "no series": b'{"series": []}',
        "empty series": b'{"series": [{"target": []}]}',
        "only nulls": b'{"series": [{"target": [null, null]}]}',
        "unknown field": b'{"series": [{"target": [1]}], "colour": 1}',
        "horizon 0": b'{"series": [{"target": [1]}], "horizon": 0}',
        "horizon too long": b'{"series": [{"target": [1]}], "horizon": 49}',
        "200 levels": f'{{"series": [{{"target": [1]}}], "quantile_levels": {levels}}}'.encode(),
        "truncated JSON": good[:-5],
        "NaN": b'{"series": [{"target": [1, NaN]}]}',
        "beyond float32": b'{"series": [{"target": [1, 3.4e39]}]}',
    }
    requests: dict[str, tuple[str, bytes, dict[str, str]]] = {
        name: ("monthly", body, {}) for name, body in bodies.items()
    }
    bomb = gzip.compress(bytes(100 * 2**20))
    return requests | {
        "unknown model": ("weekly", good, {}),
        "wrong content type": ("monthly", good, {"content-type": "text/plain"}),
        "gzip bomb, 100 MiB": ("monthly", bomb, {"content-encoding": "gzip"}),
        "100 MB body, announced": ("monthly", b"", {"content-length": "100000000"}),
    }


async def measure_refusals() -> Figures:
    """Time the answer to each kind of bad request, and the memory of the gateway meanwhile."""
    figures: Figures = {}
    async with serving(REPOSITORY, **SETTINGS) as service:
        await _refuse(service, "monthly", b"{}", {})
        before = _resident_mib(service.gateways[0])
        for name, (model, body, headers) in bad_requests().items():
            answers = [await _refuse(service, model, body, headers) for _ in range(NUM_REFUSALS)]
            milliseconds = float(np.median([elapsed for _, elapsed in answers]))
            figures[name] = f"{answers[0][0]} in {milliseconds:.1f} ms"
        growth = _resident_mib(service.gateways[0]) - before
    return figures | {"growth of the gateway, MiB": round(growth, 1)}


async def _refuse(
    service: Service, model: str, body: bytes, headers: dict[str, str]
) -> tuple[int, float]:
    async with Client(service.port) as client:
        started = time.perf_counter()
        answer = await client.post(path_of(model), body, headers)
        return answer.status, 1000 * (time.perf_counter() - started)


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def measure_accuracy() -> Figures:
    """Read the measured accuracy on the starter's card."""
    engine = OrtEngine.from_file(REPOSITORY / "monthly" / "1" / MODEL_FILE, "cpu")
    return {
        f"{a.data_set}: MASE (seasonal naive)": f"{a.mase:.3f} ({a.seasonal_naive_mase:.3f})"
        for a in engine.card.accuracy
    }


CASES: dict[str, Callable[[], Awaitable[Figures]]] = {
    "batching never changes an answer": measure_batching,
    "SIGTERM loses nothing": measure_stopping,
    "SIGKILL of the runner": lambda: measure_replacing(signal.SIGKILL),
    "SIGSTOP of the runner": lambda: measure_replacing(signal.SIGSTOP),
    "bad requests": measure_refusals,
    "starter model": measure_accuracy,
}


async def main() -> None:
    """Measure all of it."""
    environment = describe_environment()
    results: dict[str, Figures] = {}
    print(json.dumps(environment, indent=1))
    for name, measure in CASES.items():
        results[name] = await measure()
        print(name)
        for figure, value in results[name].items():
            print(f"  {figure:45} {value}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps({"environment": environment, "results": results}, indent=1) + "\n"
    )


if __name__ == "__main__":
    asyncio.run(main())
