"""What an artifact costs to serve on this machine: memory and time."""

import os
import statistics
import time
from pathlib import Path

from app.runner.engine import OrtEngine
from app.tensors import Tensors

_MEMORY_FILE = Path("/proc/self/statm")
_WARM_UP_RUNS = 5
_MOST_RUNS = 100
_MOST_SECONDS = 1.0


def measure_latency_ms(engine: OrtEngine, inputs: Tensors, output: str) -> float:
    """Return the median time of a run that computes ``output`` of ``inputs``."""
    for _ in range(_WARM_UP_RUNS):
        engine.run(inputs, [output])
    durations: list[float] = []
    started = time.perf_counter()
    while len(durations) < _MOST_RUNS and time.perf_counter() - started < _MOST_SECONDS:
        before = time.perf_counter()
        engine.run(inputs, [output])
        durations.append(time.perf_counter() - before)
    return 1e3 * statistics.median(durations)


def resident_bytes() -> int | None:
    """Return the memory that this process holds; None where the system does not tell."""
    if not _MEMORY_FILE.exists():
        return None
    return int(_MEMORY_FILE.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
