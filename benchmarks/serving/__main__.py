"""Measures the serving path beside its limits and other servers: python -m benchmarks.serving.

The server runs on core 0, the load on core 1, over loopback, closed loop. In the same run: ONNX
Runtime without a server, and HTTP with JSON without a model. ``--peers`` adds LitServe and Triton,
each in an environment of its own that is made on the first run. ``--quick`` takes a second a case.
Prints a line for each case and writes benchmarks/results/serving.json.
"""

import argparse
import asyncio
import json
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.environment import describe_environment
from benchmarks.serving.load import (
    TOLERANCE,
    Figures,
    Request,
    check_answers,
    native_requests,
    send_for,
    tensor_requests,
)
from benchmarks.serving.models import lstm_model
from benchmarks.serving.servers import (
    CACHE,
    LOAD_CORE,
    ROOT,
    SERVER_CORE,
    Server,
    pinned,
    serving,
)

RESULTS = ROOT / "benchmarks" / "results" / "serving.json"
STARTER = ROOT / "model_repository" / "monthly"
LENGTH = 96
MIXED = [24, 48, 96, 192, 352, 512]
BATCHES = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True, slots=True)
class Case:
    """What is asked, how often at a time, and who can answer it."""

    name: str
    num_clients: int
    hidden_size: int = 128
    rows: int = 1
    lengths: Sequence[int] = (LENGTH,)
    is_binary: bool = False
    is_native: bool = False
    servers: Sequence[str] = ("gatecast",)


ALL = ("gatecast", "floor", "litserve", "triton")
CASES = [
    Case("JSON", 1, servers=ALL),
    Case("JSON", 16, servers=ALL),
    Case("JSON", 64, servers=ALL),
    Case("JSON", 256, servers=ALL),
    Case("binary", 64, is_binary=True),
    Case("native API, starter", 64, is_native=True),
    Case("mixed lengths", 64, lengths=MIXED, servers=("gatecast", "triton")),
    Case("16 series, binary", 16, rows=16, is_binary=True),
    Case("1000 series, binary", 2, rows=1000, is_binary=True),
    Case("JSON", 1, hidden_size=512, servers=("gatecast", "litserve", "triton")),
    Case("JSON", 16, hidden_size=512, servers=("gatecast", "litserve", "triton")),
]


class Benchmark:
    """All cases; ``seconds`` is the time of each, after a third of it to warm up."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.rows: list[dict[str, Any]] = []
        self._folder = folder
        self._seconds = seconds
        self._sessions: dict[int, ort.InferenceSession] = {}

    def measure_limits(self) -> dict[str, dict[str, float]]:
        """Return series a second of ONNX Runtime alone, by model and batch, on that core."""
        with pinned(SERVER_CORE):
            return {
                f"LSTM-{size}": {str(n): self._raw_limit(size, n) for n in BATCHES}
                for size in (128, 512)
            }

    async def measure(self, name: str, hidden_size: int, cases: Sequence[Case]) -> None:
        """Start one server and send what it can answer."""
        cases = [c for c in cases if name in c.servers and c.hidden_size == hidden_size]
        if not cases:
            return
        models = self._folder / name / str(hidden_size)
        path = models / "m" / "1" / "model.onnx"
        path.parent.mkdir(parents=True)
        path.write_bytes(lstm_model(hidden_size, has_lengths=name == "gatecast"))
        if name == "gatecast":
            shutil.copytree(STARTER, models / "monthly")
        async with serving(name, path) as server:
            for case in cases:
                with pinned(LOAD_CORE):
                    row = await self._measure_case(server, case, name)
                self.rows.append(row)
                print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)

    async def _measure_case(self, server: Server, case: Case, name: str) -> dict[str, Any]:
        requests = self._requests(case)
        if name != "floor":
            difference = await check_answers(server.port, requests, case.num_clients)
            assert difference < TOLERANCE, difference
        await send_for(max(1, self._seconds // 3), server.port, requests, case.num_clients)
        model = "monthly" if case.is_native else "m"
        batches, used = await _batches(server, model, name), server.cpu_seconds()
        sent = await send_for(self._seconds, server.port, requests, case.num_clients)
        used = {kind: value - used[kind] for kind, value in server.cpu_seconds().items()}
        done = {
            key: value - batches.get(key, 0)
            for key, value in (await _batches(server, model, name)).items()
        }
        return {
            "server": name,
            "model": "starter" if case.is_native else f"LSTM-{case.hidden_size}",
            "case": case.name,
            "clients": case.num_clients,
            **_rates(sent, used, done),
            "MiB": round(server.memory_mib()),
        }

    def _requests(self, case: Case) -> list[Request]:
        if case.is_native:
            return native_requests("monthly", LENGTH)

        def run(history: NDArray[np.float32]) -> NDArray[np.float32]:
            return self._run(case.hidden_size, history)

        return tensor_requests(run, case.lengths, rows=case.rows, is_binary=case.is_binary)

    def _run(self, hidden_size: int, history: NDArray[np.float32]) -> NDArray[np.float32]:
        if hidden_size not in self._sessions:
            options = ort.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            model = lstm_model(hidden_size, has_lengths=False)
            self._sessions[hidden_size] = ort.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        (forecast,) = self._sessions[hidden_size].run(None, {"history": history})
        return np.asarray(forecast)

    def _raw_limit(self, hidden_size: int, batch: int) -> float:
        history = np.zeros((batch, LENGTH, 1), np.float32)
        self._run(hidden_size, history)
        durations: list[float] = []
        deadline = time.perf_counter() + self._seconds / 4
        while time.perf_counter() < deadline:
            started = time.perf_counter()
            self._run(hidden_size, history)
            durations.append(time.perf_counter() - started)
        return round(batch / float(np.median(durations)), 1)


async def _batches(server: Server, model_name: str, name: str) -> Figures:
    return await server.metrics(model_name) if name == "gatecast" else {}


def _rates(sent: Figures, used: Mapping[str, float], done: Figures) -> dict[str, float]:
    rates = {
        "requests/s": round(sent["requests"] / sent["seconds"], 1),
        "p50 ms": round(sent["p50 ms"], 2),
        "p99 ms": round(sent["p99 ms"], 2),
        "errors": int(sent["errors"]),
    }
    rates |= {
        f"{kind} us": round(seconds / max(1, sent["requests"]) * 1e6, 1)
        for kind, seconds in used.items()
    }
    runs = done.get("batch_rows_count", 0)
    if runs:
        rates["mean batch"] = round(done["batch_rows_sum"] / runs, 1)
        rates["padding"] = round(done["batch_padding_share_sum"] / runs, 3)
    return rates


async def main() -> None:
    """Measure all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", action="store_true", help="also run LitServe and Triton")
    parser.add_argument("--quick", action="store_true", help="one second a case")
    parser.add_argument("--only", default="", help="only cases whose name begins so")
    arguments = parser.parse_args()
    measuring = asyncio.current_task()
    if measuring is not None:  # so that no server is left behind
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, measuring.cancel)
    cases = [case for case in CASES if case.name.startswith(arguments.only)]
    names = ALL if arguments.peers else ALL[:2]
    environment = describe_environment()
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        benchmark = Benchmark(Path(folder), seconds=1 if arguments.quick else 5)
        limits = benchmark.measure_limits()
        print(json.dumps({"environment": environment, "series/s without server": limits}, indent=1))
        for name in names:
            for hidden_size in (128, 512):
                await benchmark.measure(name, hidden_size, cases)
    if not arguments.only and not arguments.quick:
        content = {"environment": environment, "limits": limits, "rows": benchmark.rows}
        RESULTS.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
