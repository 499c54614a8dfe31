"""The service on all cores, which the load shares, beside Triton with two instances.

All servers are up at the same time and are measured in turns, since machines are shared.
"""

import statistics
from contextlib import AsyncExitStack

from benchmarks.serving.load import Figures, tensor_requests
from benchmarks.serving.models import lstm_model
from benchmarks.serving.rates import Bench, ClosedLoop, Row
from benchmarks.serving.raw import RawModel
from benchmarks.serving.servers import Server, serving

NUM_CLIENTS = 64
LENGTH = 96
NUM_ROUNDS = 3
GATECAST = {"gatecast, a runner for each core": ("--runners=0",), "gatecast, 1 runner": ()}
TRITON = "triton, 2 instances"


async def measure_both_cores(bench: Bench) -> list[Row]:
    """Return a row for each server: medians of its rounds, and its ratio to Triton's speed."""
    requests = tensor_requests(RawModel.plain(128).run, [LENGTH])
    load = ClosedLoop(requests, NUM_CLIENTS)
    rounds: dict[str, list[Figures]] = {}
    async with AsyncExitStack() as stack:
        servers = await _start(bench, stack)
        for server in servers.values():
            await load.warm_up(server, bench.warm_up_s)
        for _ in range(NUM_ROUNDS):
            for name, server in servers.items():
                figures = await load.measure(server, max(1, bench.seconds // 2))
                rounds.setdefault(name, []).append(figures)
    medians = {name: _median_of(figures) for name, figures in rounds.items()}
    return [
        {
            "server": name,
            "model": "LSTM-128",
            "case": "both cores",
            "clients": NUM_CLIENTS,
            **median,
            "errors": int(sum(one["errors"] for one in rounds[name])),
            **_ratio(rounds[name], rounds.get(TRITON, [])),
        }
        for name, median in medians.items()
    ]


async def _start(bench: Bench, stack: AsyncExitStack) -> dict[str, Server]:
    path = bench.folder / "both cores" / "m" / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(lstm_model(128, has_lengths=True))
    servers = {
        name: await stack.enter_async_context(serving("gatecast", path, *options, cores=()))
        for name, options in GATECAST.items()
    }
    if bench.has_peers:
        path = bench.folder / "without lengths.onnx"
        path.write_bytes(lstm_model(128, has_lengths=False))
        servers[TRITON] = await stack.enter_async_context(serving("triton", path, "2", cores=()))
    return servers


def _median_of(rounds: list[Figures]) -> Figures:
    return {name: round(statistics.median(one[name] for one in rounds), 2) for name in rounds[0]}


def _ratio(rounds: list[Figures], triton: list[Figures]) -> Figures:
    """Compare round by round."""
    if not triton:
        return {}
    ratios = [
        own["requests/s"] / other["requests/s"] for own, other in zip(rounds, triton, strict=True)
    ]
    return {"times Triton": round(statistics.median(ratios), 3)}
