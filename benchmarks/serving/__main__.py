"""Measures the serving path beside its limits and other servers: python -m benchmarks.serving.

The server runs on core 0, the load on core 1, over loopback, closed loop; all servers of a model
size are up at the same time and are measured in turns, case by case. In the same run: ONNX Runtime
without a server, batches of 16, just before and just after each case of gatecast, and HTTP with
JSON without a model (the floor). ``--peers`` adds LitServe and Triton, each in an environment of
its own that is made on the first run. Every answer is checked.

The models are plain LSTMs of 128 and 512 units, asked for tensors; a forecaster of the same size as
the former, trained a little on made-up series and exported on the first run; and the starter.

Three more cases stand for themselves: ``both cores`` (nothing is pinned: one runner, one for each
core, and Triton with two instances), ``repeated histories`` (of 500 steps with one new value, the
state cache on and off), and ``live beside bulk`` (an open loop of live requests alone, beside a
file, beside a job, and tensors by priority).

``--quick`` takes a second a case, ``--only`` takes the cases whose name begins so. Prints a line
for each case and its place between the limits, and writes benchmarks/results/serving.json.
"""

import argparse
import asyncio
import json
import shutil
import signal
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from benchmarks.environment import describe_environment
from benchmarks.serving import forecaster
from benchmarks.serving.beside_bulk import measure_beside_bulk
from benchmarks.serving.both_cores import measure_both_cores
from benchmarks.serving.cases import ALL, CASES, LENGTH, STARTER, Case, compare
from benchmarks.serving.load import make_histories
from benchmarks.serving.models import lstm_model
from benchmarks.serving.rates import Bench, ClosedLoop, Row
from benchmarks.serving.raw import Cost, RawModel
from benchmarks.serving.servers import (
    CACHE,
    LOAD_CORE,
    ROOT,
    SERVER_CORE,
    Server,
    pinned,
    serving,
)
from benchmarks.state_cache import measure_repeated

RESULTS = ROOT / "benchmarks" / "results" / "serving.json"
BATCHES = (1, 2, 4, 8, 16, 32)
OTHERS: Mapping[str, Callable[[Bench], Awaitable[Row | list[Row]]]] = {
    "both cores": measure_both_cores,
    "repeated histories": measure_repeated,
    "live beside bulk": measure_beside_bulk,
}


def measure_limits(seconds: float) -> dict[str, dict[str, float]]:
    """Return series a second of ONNX Runtime alone, by model and batch, on that core."""
    models = {f"LSTM-{size}": RawModel.plain(size) for size in (128, 512)}
    models["LSTM-128 forecaster"] = RawModel.forecaster(forecaster.forecaster_file().read_bytes())
    with pinned(SERVER_CORE):
        return {
            name: {
                str(n): round(model.measure(make_histories(n, LENGTH), seconds).per_s, 1)
                for n in BATCHES
            }
            for name, model in models.items()
        }


class CaseBenchmark:
    """All cases of a closed loop against a server on one core."""

    def __init__(self, bench: Bench) -> None:
        self.rows: list[Row] = []
        self.comparisons: list[Row] = []
        self._bench = bench
        self._names = ALL if bench.has_peers else ALL[:2]

    async def measure(self, hidden_size: int, cases: Sequence[Case]) -> None:
        """Start all servers of one model size, and send what each can answer."""
        cases = [case for case in cases if case.hidden_size == hidden_size]
        needed = {name for case in cases for name in case.servers}
        async with AsyncExitStack() as stack:
            servers = {
                name: await stack.enter_async_context(serving(name, self._lay_out(name, cases[0])))
                for name in self._names
                if name in needed
            }
            for case in cases:
                await self._measure_case(
                    case, {name: servers[name] for name in servers if name in case.servers}
                )

    async def _measure_case(self, case: Case, servers: Mapping[str, Server]) -> None:
        load = ClosedLoop(case.requests(), case.num_clients, case.model_name)
        rows: dict[str, Row] = {}
        raws: list[Cost] = []
        for name, server in servers.items():
            with pinned(LOAD_CORE):
                await load.warm_up(server, self._bench.warm_up_s, is_checked=name != "floor")
            raws += self._measure_raw(case) if name == "gatecast" else []
            with pinned(LOAD_CORE):
                rates = await load.measure(server, self._bench.seconds)
            raws += self._measure_raw(case) if name == "gatecast" else []
            rows[name] = {
                "server": name,
                "model": case.model,
                "case": case.name,
                "clients": case.num_clients,
                **rates,
                "MiB": round(server.memory_mib()),
            }
            _print(rows[name])
        self.rows += rows.values()
        comparison = compare(case, raws, rows)
        self.comparisons.append(comparison)
        _print({"-> gatecast": "", **comparison})

    def _measure_raw(self, case: Case) -> list[Cost]:
        batch = case.limit_input()
        if batch is None:
            return []
        with pinned(SERVER_CORE):
            return [case.raw.measure(batch, self._bench.seconds / 10)]

    def _lay_out(self, name: str, case: Case) -> Path:
        models = self._bench.folder / name / str(case.hidden_size)
        path = models / "m" / "1" / "model.onnx"
        path.parent.mkdir(parents=True)
        path.write_bytes(lstm_model(case.hidden_size, has_lengths=name == "gatecast"))
        if name == "gatecast" and case.hidden_size == forecaster.HIDDEN_SIZE:
            shutil.copytree(STARTER, models / "monthly")
            shutil.copytree(forecaster.forecaster_file().parents[1], models / forecaster.NAME)
        return path


def _print(row: Mapping[str, Any]) -> None:
    print(", ".join(f"{key} {value}".strip() for key, value in row.items()), flush=True)


async def measure_all(bench: Bench, only: str) -> dict[str, Any]:
    """Measure the cases whose names begin with ``only``; return what is recorded."""
    limits = {} if only else measure_limits(bench.seconds / 5)
    print(json.dumps({"series/s without server": limits}, indent=1), flush=True)
    benchmark = CaseBenchmark(bench)
    cases = [case for case in CASES if case.name.startswith(only)]
    for hidden_size in sorted({case.hidden_size for case in cases}):
        await benchmark.measure(hidden_size, cases)
    others: dict[str, Any] = {}
    for name, measure in OTHERS.items():
        if name.startswith(only):
            others[name] = await measure(bench)
            print(name, json.dumps(others[name], indent=1), flush=True)
    return {
        "limits": limits,
        "rows": benchmark.rows,
        "comparisons": benchmark.comparisons,
        **others,
    }


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
    environment = describe_environment()
    print(json.dumps({"environment": environment}, indent=1))
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), 1 if arguments.quick else 5, has_peers=arguments.peers)
        results = await measure_all(bench, arguments.only)
    if not arguments.only and not arguments.quick:
        RESULTS.write_text(json.dumps({"environment": environment, **results}, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
