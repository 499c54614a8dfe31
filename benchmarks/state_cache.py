"""Histories of 500 steps that come again with one more value: python -m benchmarks.state_cache.

The same traffic on the same forecaster with the state cache on and off, in turns; the server runs
on core 0, 64 clients on core 1. The forecaster is as large as the plain LSTM of 128 units. Every
answer is compared with a run of the whole history in ONNX Runtime alone. Prints figures and writes
benchmarks/results/state_cache.json; ``python -m benchmarks.serving`` measures the same, shorter.
"""

import asyncio
import itertools
import json
import statistics
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.settings import Settings
from benchmarks.environment import describe_environment
from benchmarks.serving.forecaster import (
    CONTEXT_LENGTH,
    HIDDEN_SIZE,
    NAME,
    NUM_LAYERS,
    forecaster_file,
)
from benchmarks.serving.load import (
    Figures,
    Request,
    largest_difference,
    make_histories,
    native_request,
    send_once,
)
from benchmarks.serving.rates import Bench, Row, cpu_us
from benchmarks.serving.raw import RawModel
from benchmarks.serving.servers import LOAD_CORE, ROOT, pinned, serving

RESULTS = ROOT / "benchmarks" / "results" / "state_cache.json"
NUM_ROUNDS = 3
NUM_CLIENTS = 64
NUM_SERIES = 128
FIRST_STEPS = 500
NUM_NEW_VALUES = 16
TOLERANCE = 1e-5
OPTIONS = {
    "on": f"--state-cache-bytes={Settings.model_fields['state_cache_bytes'].default}",
    "off": "--state-cache-bytes=0",
}

_ROWS = 16
"""Of a run in ONNX Runtime alone."""


class Traffic:
    """All histories, then all of them with one more value, and so on."""

    def __init__(self, num_new_values: int) -> None:
        self.first, *later = _make_turns(num_new_values)
        self.later = list(itertools.chain.from_iterable(later))

    async def measure(self, option: str) -> tuple[Figures, float]:
        """Send the first histories, then time those that grow.

        Returns: Rates, and the largest relative difference of an answer.
        """
        async with serving("gatecast", forecaster_file(), option) as server:
            with pinned(LOAD_CORE):
                first = await send_once(server.port, self.first, NUM_CLIENTS)
                used, started = server.cpu_seconds(), time.perf_counter()
                later = await send_once(server.port, self.later, NUM_CLIENTS)
                elapsed = time.perf_counter() - started
            used = {kind: value - used[kind] for kind, value in server.cpu_seconds().items()}
        difference = largest_difference([*self.first, *self.later], [*first, *later])
        rates = {"requests/s": round(len(later) / elapsed, 1)}
        return rates | cpu_us(used, len(later)), difference


def _make_turns(num_new_values: int) -> list[list[Request]]:
    raw = RawModel.forecaster(forecaster_file().read_bytes())
    histories = make_histories(NUM_SERIES, FIRST_STEPS + num_new_values)
    return [
        [native_request(NAME, *one) for one in _run_all(raw, histories[:, : FIRST_STEPS + number])]
        for number in range(num_new_values + 1)
    ]


def _run_all(
    raw: RawModel, histories: NDArray[np.float32]
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return every history, and its forecast as one of a batch of one."""
    return [
        (history, forecast[np.newaxis])
        for start in range(0, len(histories), _ROWS)
        for history, forecast in zip(
            histories[start : start + _ROWS], raw.run(histories[start : start + _ROWS]), strict=True
        )
    ]


async def measure(num_rounds: int, num_new_values: int) -> Row:
    """Measure with the cache and without by turns, and compare all answers."""
    traffic = Traffic(num_new_values)
    rounds: dict[str, list[Figures]] = {"on": [], "off": []}
    differences: list[float] = []
    for _ in range(num_rounds):
        for name, figures in rounds.items():
            rates, difference = await traffic.measure(OPTIONS[name])
            figures.append(rates)
            differences.append(difference)
    assert max(differences) <= TOLERANCE, differences
    medians = {name: median_of(figures) for name, figures in rounds.items()}
    return {
        "median with the state cache": medians,
        "on / off": {
            name: round(medians["on"][name] / max(medians["off"][name], 1e-9), 3)
            for name in ("requests/s", "runner us", "gateway us")
        },
        "largest relative difference of the answers": max(differences),
        "rounds": rounds,
    }


async def measure_repeated(bench: Bench) -> Row:
    """Measure as a case of ``benchmarks.serving``: one round for each five seconds of a case."""
    return await measure(1, NUM_NEW_VALUES if bench.seconds > 1 else 2)


def median_of(rounds: Sequence[Figures]) -> Figures:
    """Return the median of each figure."""
    return {name: round(statistics.median(one[name] for one in rounds), 1) for name in rounds[0]}


async def main() -> None:
    """Measure, print and write."""
    results = {
        "environment": describe_environment(),
        "traffic": {
            "clients": NUM_CLIENTS,
            "histories": NUM_SERIES,
            "first steps": FIRST_STEPS,
            "new values, one at a time": NUM_NEW_VALUES,
            "rounds": NUM_ROUNDS,
            "forecaster": {
                "hidden_size": HIDDEN_SIZE,
                "num_layers": NUM_LAYERS,
                "context_length": CONTEXT_LENGTH,
            },
        },
        **await measure(NUM_ROUNDS, NUM_NEW_VALUES),
    }
    text = json.dumps(results, indent=2)
    print(text)
    RESULTS.write_text(text + "\n")


if __name__ == "__main__":
    asyncio.run(main())
