"""Histories of 500 steps that come again with one more value: python -m benchmarks.state_cache.

The same traffic on the same LSTM-128 forecaster with the state cache on and off, in turns. Prints
figures and writes benchmarks/results/state_cache.json.
"""

import asyncio
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from app.artifact.golden_case import relative_error
from benchmarks.environment import describe_environment
from tests.e2e.client import Client
from tests.e2e.service import Service, serving, write_model
from tests.e2e.traffic import path_of, quantiles_of
from tests.tiny_artifact import tiny_artifact

RESULTS = Path(__file__).parent / "results" / "state_cache.json"
FORECASTER = {
    "context_length": 1024,
    "hidden_size": 128,
    "num_layers": 1,
    "horizon": 24,
    "season": 12,
    "window": 24,
}
"""One LSTM of 128 units; untrained, which costs the same."""

NUM_ROUNDS = 3
NUM_CLIENTS = 64
NUM_SERIES = 128
FIRST_STEPS = 500
NUM_NEW_VALUES = 8
TOLERANCE = 1e-5
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")

Figures = dict[str, float | int | str]


def make_bodies() -> list[list[bytes]]:
    """Return the bodies of every turn: all histories, each time with one more value."""
    steps = FIRST_STEPS + NUM_NEW_VALUES
    values = np.random.default_rng(0).gamma(5, 20, (NUM_SERIES, steps)).round(2).tolist()
    return [
        [json.dumps({"series": [{"target": one[:length]}]}).encode() for one in values]
        for length in range(FIRST_STEPS, steps + 1)
    ]


async def send_all(service: Service, bodies: list[bytes]) -> list[bytes]:
    """Send bodies with many clients at once, and return the answers in their order."""
    answers = [b""] * len(bodies)
    numbers = iter(range(len(bodies)))

    async def work() -> None:
        async with Client(service.port) as client:
            for number in numbers:
                answer = await client.post(path_of("lstm"), bodies[number])
                assert answer.status == 200
                answers[number] = answer.body

    await asyncio.gather(*(work() for _ in range(NUM_CLIENTS)))
    return answers


def cpu_seconds(pids: list[int]) -> float:
    """Return the processor time that processes have used."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(one[11]) + int(one[12]) for one in fields) / CLOCK_TICKS


async def measure(
    repository: Path, turns: list[list[bytes]], **settings: object
) -> tuple[Figures, list[bytes]]:
    """Send the first histories, then time those that grow."""
    async with serving(repository, access_log=False, **settings) as service:
        await send_all(service, turns[0])
        runner, gateway = cpu_seconds(service.runners), cpu_seconds(service.gateways)
        started = time.perf_counter()
        answers = [answer for bodies in turns[1:] for answer in await send_all(service, bodies)]
        elapsed = time.perf_counter() - started
        count = len(answers)
        figures: Figures = {
            "requests/s": round(count / elapsed, 1),
            "runner, us of CPU a request": round(
                1e6 * (cpu_seconds(service.runners) - runner) / count, 1
            ),
            "gateway, us of CPU a request": round(
                1e6 * (cpu_seconds(service.gateways) - gateway) / count, 1
            ),
        }
    return figures, answers


def largest_difference(got: list[bytes], want: list[bytes]) -> float:
    """Return the largest relative difference between two lists of answers."""
    return max(
        relative_error(quantiles_of(json.loads(one))[None], quantiles_of(json.loads(other))[None])
        for one, other in zip(got, want, strict=True)
    )


def median_of(rounds: list[Figures]) -> Figures:
    """Return the median of each figure."""
    return {
        name: round(statistics.median(float(one[name]) for one in rounds), 1) for name in rounds[0]
    }


async def main() -> None:
    """Measure by turns, compare the answers, print and write."""
    turns = make_bodies()
    rounds: dict[str, list[Figures]] = {"on": [], "off": []}
    difference = 0.0
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder), tiny_artifact(**FORECASTER), name="lstm")
        for _ in range(NUM_ROUNDS):
            on, got = await measure(Path(folder), turns)
            off, want = await measure(Path(folder), turns, state_cache_bytes=0)
            rounds["on"].append(on)
            rounds["off"].append(off)
            difference = max(difference, largest_difference(got, want))
    assert difference <= TOLERANCE
    medians = {name: median_of(figures) for name, figures in rounds.items()}
    ratios = {
        name: round(float(medians["on"][name]) / float(medians["off"][name]), 3)
        for name in medians["on"]
    }
    results = {
        "environment": describe_environment(),
        "traffic": {
            "clients": NUM_CLIENTS,
            "histories": NUM_SERIES,
            "first steps": FIRST_STEPS,
            "new values, one at a time": NUM_NEW_VALUES,
            "rounds": NUM_ROUNDS,
            "forecaster": FORECASTER,
        },
        "median with the state cache": medians,
        "on / off": ratios,
        "largest relative difference of the answers": difference,
        "rounds": rounds,
    }
    text = json.dumps(results, indent=2)
    print(text)
    RESULTS.write_text(text + "\n")


if __name__ == "__main__":
    asyncio.run(main())
