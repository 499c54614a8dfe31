"""Measures what vetting costs: python -m benchmarks.vetting.

Prints figures and writes benchmarks/results/vetting.json.
"""

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from onnx import ModelProto

from app.artifact.directory import MODEL_FILE
from app.runner.repository import Repository
from app.runner.vetting import Vetter
from app.settings import load_settings
from benchmarks.environment import describe_environment
from tests.e2e.service import serving, write_model
from tests.hostile_models import edited

STARTER = Path(__file__).parents[1] / "model_repository" / "monthly" / "1" / MODEL_FILE
RESULTS = Path(__file__).parent / "results" / "vetting.json"
NUM_MODELS = 10
NUM_LOADS = 20
TICK_S = 0.001

Figures = dict[str, float | int | str]


def make_vetter(directory: Path) -> Vetter:
    """Return a vetter with the limits of a service that nobody configured."""
    settings = load_settings()
    return Vetter(
        directory,
        max_bytes=settings.max_model_bytes,
        timeout_s=settings.vetting_timeout_s,
        memory=Path(tempfile.mkdtemp()) / "vetted",
    )


def set_text(number: int) -> Callable[[ModelProto], None]:
    """Return an edit that makes one model of many of one that is alike."""

    def edit(model: ModelProto) -> None:
        model.doc_string = str(number)

    return edit


def write_models(directory: Path) -> None:
    """Fill a repository with copies of the starter that differ."""
    for number in range(NUM_MODELS):
        model = edited(STARTER.read_bytes(), set_text(number))
        write_model(directory, model, name=f"model-{number}")


def measure_loading(directory: Path) -> Figures:
    """Load copies of the starter untried and vetted, the start of the child included."""

    def load(repository: Repository) -> float:
        started_s = time.monotonic()
        for name in repository.names():
            assert repository.load(name).models[-1].engine is not None
        return time.monotonic() - started_s

    figures: Figures = {"models": NUM_MODELS, "bytes each": STARTER.stat().st_size}
    before_s = read_cpu_s()
    untried_s = load(Repository(directory, "cpu"))
    between_s = read_cpu_s()
    with make_vetter(directory) as vetter:
        vetter.look_ahead()
        vetted_s = load(Repository(directory, "cpu", read_model=vetter.read))
    after_s = read_cpu_s()  # a child's time counts once it has ended
    return figures | {
        "untried, s": round(untried_s, 2),
        "untried, processor s": round(between_s - before_s, 2),
        "vetted, s": round(vetted_s, 2),
        "vetted, processor s": round(after_s - between_s, 2),
    }


def read_cpu_s() -> float:
    """Return the processor time of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


async def measure_stall(directory: Path) -> Figures:
    """Load models in a thread, as a serving runner does, and see how long the event loop stands."""
    gaps: dict[str, float] = {}
    with make_vetter(directory) as vetter:
        for name, read in (("vetted", vetter.read), ("untried", None)):
            repository = Repository(directory, "cpu", read_model=read)
            loads = [partial(repository.load, f"model-{n % NUM_MODELS}") for n in range(NUM_LOADS)]
            gaps[f"longest, {name}, ms"] = await longest_gap_ms(loads)
    gaps["longest, nothing loaded, ms"] = await longest_gap_ms(
        [partial(time.sleep, 0.1)] * NUM_LOADS
    )
    return {"loads": NUM_LOADS, **gaps}


async def longest_gap_ms(jobs: Iterable[Callable[[], object]]) -> float:
    """Return the longest time between two turns of the loop while jobs run in a thread."""
    longest_s, is_done = 0.0, False

    async def tick() -> None:
        nonlocal longest_s
        while not is_done:
            started = time.perf_counter()
            await asyncio.sleep(TICK_S)
            longest_s = max(longest_s, time.perf_counter() - started - TICK_S)

    ticking = asyncio.create_task(tick())
    for job in jobs:
        await asyncio.to_thread(job)
    is_done = True
    await ticking
    return round(longest_s * 1000, 1)


async def measure_start(directory: Path) -> Figures:
    """Start a whole service with these models."""
    started = time.monotonic()
    async with serving(directory):
        return {"models": NUM_MODELS, "ready after, s": round(time.monotonic() - started, 2)}


def main() -> None:
    """Measure, print and write."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        write_models(directory)
        figures = {
            "ten models opened": measure_loading(directory),
            "event loop while a model loads": asyncio.run(measure_stall(directory)),
            "start of a service": asyncio.run(measure_start(directory)),
        }
    text = json.dumps({"environment": describe_environment(), **figures}, indent=2)
    print(text)
    RESULTS.write_text(text + "\n")


if __name__ == "__main__":
    main()
