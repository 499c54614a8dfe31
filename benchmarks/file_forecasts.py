"""Measures forecasts of CSV files over HTTP: python -m benchmarks.file_forecasts.

Rows are in order of time, the order that needs the most work. Prints a table and writes
benchmarks/results/file_forecasts.json.
"""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy as np

from benchmarks.environment import describe_environment
from tests.e2e.service import Service, serving

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "file_forecasts.json"
NUM_SERIES = (1000, 5000, 10_000)
NUM_STEPS = 200
TIMEOUT_S = 1200

Figures = dict[str, float | int | str]


def make_file(num_series: int) -> bytes:
    """Return monthly series, all items of a month together."""
    months = np.datetime_as_string(np.datetime64("2000-01") + np.arange(NUM_STEPS)).tolist()
    generator = np.random.default_rng(1)
    lines = ["item_id,timestamp,target\n"]
    for month in months:
        targets = generator.gamma(4, 25, num_series).round(2).tolist()
        lines.extend(f"item-{n:06},{month},{t}\n" for n, t in enumerate(targets))
    return "".join(lines).encode()


async def forecast_file(service: Service, body: bytes) -> Figures:
    """Send a file and count what comes back, without keeping it."""
    url = f"http://127.0.0.1:{service.port}/v1/models/monthly/forecast?horizon=12"
    (gateway,) = service.gateways
    before, started = _peak_mib(gateway), time.perf_counter()
    num_lines, first_s = 0, 0.0
    headers = {"Content-Type": "text/csv"}
    async with (
        httpx.AsyncClient(timeout=TIMEOUT_S) as client,
        client.stream("POST", url, content=_pieces(body), headers=headers) as answer,
    ):
        assert answer.status_code == 200
        async for piece in answer.aiter_bytes():
            first_s = first_s or time.perf_counter() - started
            num_lines += piece.count(b"\n")
    return {
        "rows in": body.count(b"\n") - 1,
        "rows out": num_lines - 1,
        "first byte, s": round(first_s, 2),
        "whole answer, s": round(time.perf_counter() - started, 2),
        "peak memory of the gateway, MiB": round(_peak_mib(gateway), 1),
        "growth of that, MiB": round(_peak_mib(gateway) - before, 1),
    }


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 2**16):
        yield body[start : start + 2**16]


def _peak_mib(pid: int) -> float:
    match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert match is not None
    return int(match[1]) / 1024


async def main() -> None:
    """Measure all of it, each size with a service of its own."""
    results: dict[str, Figures] = {}
    for num_series in NUM_SERIES:
        body = make_file(num_series)
        async with serving(ROOT / "model_repository", access_log=False) as service:
            results[f"{num_series} series"] = await forecast_file(service, body)
        print(num_series, results[f"{num_series} series"], flush=True)
    content = {"environment": describe_environment(("pyarrow",)), "results": results}
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
