"""Changes models under load, and counts what callers see: python -m benchmarks.model_changes.

Prints figures and writes benchmarks/results/model_changes.json.
"""

import asyncio
import json
import tempfile
import time
from pathlib import Path

from app.artifact.directory import MODEL_FILE
from benchmarks.environment import describe_environment
from tests.e2e.client import Client
from tests.e2e.service import Service, serving, write_model
from tests.e2e.test_model_changes import LOAD, Callers, odd_and_even, publish
from tests.tiny_artifact import tiny_artifact

RESULTS = Path(__file__).parent / "results" / "model_changes.json"
NUM_SWAPS = 25
NUM_RELOADS = 500
NUM_WARMING = 25

Figures = dict[str, float | int | str]


def sound_models() -> list[bytes]:
    """Return two models whose answers differ."""
    return [tiny_artifact(context_length=512), tiny_artifact(context_length=512, hidden_size=6)]


async def measure_swaps() -> Figures:
    """Publish sound and broken versions by turns, while clients ask without a pause."""
    sound = sound_models()
    longest_s = 0.0
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        write_model(directory, sound[1])
        settings = {"model_control": "explicit", "retire_after_s": 1.0, "access_log": False}
        async with serving(directory, gateways=2, runners=2, **settings) as service:
            callers = Callers(service)
            async with callers.calling(), Client(service.port) as admin:
                for number in range(NUM_SWAPS):
                    publish(directory, 2 * number + 2, sound[number % 2])
                    started = time.monotonic()
                    assert (await admin.post(LOAD, {})).status == 200
                    longest_s = max(longest_s, time.monotonic() - started)
                    publish(directory, 2 * number + 3, sound[0][:-7])
                    assert (await admin.post(LOAD, {})).status == 400
    return {
        "versions published": 2 * NUM_SWAPS,
        "of them broken": NUM_SWAPS,
        "requests answered": callers.num_answers,
        "statuses": ", ".join(map(str, sorted(callers.statuses))),
        "slowest answer, s": round(callers.slowest_s, 3),
        "longest load, s": round(longest_s, 2),
        "versions that answered": len(callers.answers),
        "versions with more than one answer": sum(len(a) > 1 for a in callers.answers.values()),
        "answers of the two models": " and ".join(
            str(len(a)) for a in odd_and_even(callers.answers)
        ),
    }


async def measure_memory() -> Figures:
    """Reload an idle service again and again, and read the memory of its runner."""
    sound = sound_models()
    with tempfile.TemporaryDirectory() as folder:
        path = write_model(Path(folder), sound[0])
        async with (
            serving(Path(folder), model_control="explicit", retire_after_s=0.0) as service,
            Client(service.port) as admin,
        ):
            before = 0.0
            for number in range(NUM_WARMING + NUM_RELOADS):
                if number == NUM_WARMING:
                    before = await resident_mib(service)
                staged = path.with_suffix(".staged")
                staged.write_bytes(sound[(number + 1) % 2])
                staged.rename(path.parent / MODEL_FILE)
                assert (await admin.post(LOAD, {})).status == 200
            after = await resident_mib(service)
    return {
        "reloads": NUM_RELOADS,
        "runner before, MiB": round(before, 1),
        "runner after, MiB": round(after, 1),
        "growth, %": round(100 * (after / before - 1), 1),
    }


async def resident_mib(service: Service) -> float:
    """Read the resident memory of the runner once it has come to rest."""
    await asyncio.sleep(1)
    (runner,) = service.runners
    return read_resident_mib(runner)


def read_resident_mib(pid: int) -> float:
    """Read the resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


async def main() -> None:
    """Measure, print and write."""
    figures = {"swaps under load": await measure_swaps(), "memory": await measure_memory()}
    results = {"environment": describe_environment(), **figures}
    text = json.dumps(results, indent=2)
    print(text)
    RESULTS.write_text(text + "\n")


if __name__ == "__main__":
    asyncio.run(main())
