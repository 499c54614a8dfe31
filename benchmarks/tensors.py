"""Measures what binary tensors save against JSON: python -m benchmarks.tensors.

One service, one series of 96 steps a request, the quantiles alone as the answer, in three forms:
binary and JSON tensors below /v2, and the native API. Rounds of the three are interleaved, so that
whatever else the machine does meets all of them; the ratios are of medians over the rounds. Prints
the figures and writes benchmarks/results/tensors.json.
"""

import asyncio
import json
import os
import statistics
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.environment import describe_environment
from tests.e2e.service import Service, serving

ROOT = Path(__file__).parent.parent
REPOSITORY = ROOT / "model_repository"
RESULTS = ROOT / "benchmarks" / "results" / "tensors.json"
STEPS = 96
NUM_CONNECTIONS = 8
NUM_ROUNDS = 11
ROUND_S = 1.5
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
HEADER = "inference-header-content-length"

Figures = dict[str, float]


def requests() -> Mapping[str, bytes]:
    """Return whole HTTP requests by form."""
    target = np.round(100 + 20 * np.sin(np.arange(STEPS) / 2), 2).astype(np.float32)
    one = {"name": "past_target", "shape": [1, STEPS], "datatype": "FP32"}
    values = [round(float(value), 2) for value in target]
    binary = {"parameters": {"binary_data": True}}
    head = json.dumps(
        {
            "inputs": [one | {"parameters": {"binary_data_size": target.nbytes}}],
            "outputs": [{"name": "quantiles"} | binary],
        }
    ).encode()
    text = json.dumps({"inputs": [one | {"data": values}], "outputs": [{"name": "quantiles"}]})
    levels = [0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95]
    series = json.dumps({"series": [{"target": values}], "quantile_levels": levels})
    tensors = "/v2/models/monthly/infer"
    return {
        "binary tensors": _request(tensors, head + target.tobytes(), {HEADER: str(len(head))}),
        "JSON tensors": _request(tensors, text.encode(), {}),
        "native JSON": _request("/v1/models/monthly/forecast", series.encode(), {}),
    }


async def measure(service: Service, request: bytes) -> Figures:
    """Send one request again and again over all connections for one round."""
    gateway_s, runner_s = _cpu_s(service.gateways), _cpu_s(service.runners)
    started = time.perf_counter()
    deadline = started + ROUND_S
    counts = await asyncio.gather(
        *(_repeat(service.port, request, deadline) for _ in range(NUM_CONNECTIONS))
    )
    elapsed = time.perf_counter() - started
    return {
        "requests/s": sum(counts) / elapsed,
        "gateway CPU us a request": (_cpu_s(service.gateways) - gateway_s) / sum(counts) * 1e6,
        "runner CPU us a request": (_cpu_s(service.runners) - runner_s) / sum(counts) * 1e6,
    }


async def main() -> None:
    """Measure all rounds, print and write."""
    by_form = requests()
    rounds: dict[str, list[Figures]] = {form: [] for form in by_form}
    async with serving(REPOSITORY, access_log=False) as service:
        for request in by_form.values():
            await _repeat(service.port, request, time.perf_counter() + ROUND_S)
        for _ in range(NUM_ROUNDS):
            for form, request in by_form.items():
                rounds[form].append(await measure(service, request))
    results = {form: _medians(found) for form, found in rounds.items()}
    base = results["binary tensors"]
    ratios = {
        form: {
            "requests/s of binary tensors over it": round(base["requests/s"] / r["requests/s"], 2),
            "gateway CPU of it over binary tensors": round(
                r["gateway CPU us a request"] / base["gateway CPU us a request"], 2
            ),
        }
        for form, r in results.items()
        if r is not base
    }
    content = {
        "environment": describe_environment(),
        "steps": STEPS,
        "connections": NUM_CONNECTIONS,
        "rounds": NUM_ROUNDS,
        "medians": results,
        "ratios": ratios,
    }
    print(json.dumps(content, indent=1))
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")


def _medians(rounds: list[Figures]) -> Figures:
    return {name: round(statistics.median(one[name] for one in rounds), 1) for name in rounds[0]}


async def _repeat(port: int, request: bytes, deadline: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    count = 0
    while time.perf_counter() < deadline:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = int(head.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        count += 1
    writer.close()
    await writer.wait_closed()
    return count


def _request(path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    given = {
        "host": "bench",
        "content-type": "application/json",
        "content-length": str(len(body)),
        **headers,
    }
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _cpu_s(processes: list[int]) -> float:
    """Return the processor time that processes have used, without their children."""
    ticks = 0
    for process in processes:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_PER_S


if __name__ == "__main__":
    asyncio.run(main())
