"""Measures a start with ten models, and an idle service: python -m benchmarks.start [STARTS].

Of several starts the least is taken: what else runs on the machine only adds. Modules are compiled
beforehand, as they are where the package is installed. Prints figures and writes
benchmarks/results/start.json.
"""

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.environment import describe_environment
from benchmarks.vetting import NUM_MODELS, write_models
from tests.e2e.service import Service, serving

RESULTS = Path(__file__).parent / "results" / "start.json"
STARTS = 5
IDLE_S = 20.0
CHILD_ENDS_S = 40.0
"""What tries models ends half a minute after the last one."""
TICKS_PER_S = os.sysconf("SC_CLK_TCK")

Figures = dict[str, float]


def processes_of(pid: int) -> Iterator[int]:
    """Yield a process and all that came of it."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):  # each thread has its own
        for child in children.read_text().split():
            yield from processes_of(int(child))


def read_cpu_s(service: Service) -> float:
    """Return the processor time of all processes, and of those of theirs that have ended."""
    ticks = 0
    for pid in processes_of(service.process.pid):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS_PER_S


def read_pss_mb(service: Service) -> float:
    """Return the memory of all processes; what some share counts once."""
    total_kb = 0
    for pid in processes_of(service.process.pid):
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total_kb += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total_kb / 1024


async def measure_start(directory: Path) -> tuple[float, float]:
    """Return the seconds to ready, and the processor seconds of it."""
    started_s = time.monotonic()
    async with serving(directory) as service:
        return time.monotonic() - started_s, read_cpu_s(service)


async def measure_idle(directory: Path) -> Figures:
    """Measure a service that nobody asks anything."""
    async with serving(directory) as service:
        await asyncio.sleep(CHILD_ENDS_S)
        before_s = read_cpu_s(service)
        await asyncio.sleep(IDLE_S)
        return {
            "memory, MiB of PSS": round(read_pss_mb(service), 1),
            "processor, % of a core": round(100 * (read_cpu_s(service) - before_s) / IDLE_S, 2),
        }


def main() -> None:
    """Measure, print and write."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PYTHONPYCACHEPREFIX"] = f"{folder}/compiled"
        directory = Path(folder) / "models"
        write_models(directory)
        starts = [asyncio.run(measure_start(directory)) for _ in range(_num_starts() + 1)][1:]
        figures = {
            "start": {
                "models": NUM_MODELS,
                "starts": len(starts),
                "least to ready, s": round(min(wall for wall, _ in starts), 2),
                "least processor time of all processes, s": round(min(cpu for _, cpu in starts), 2),
            },
            "idle": asyncio.run(measure_idle(directory)),
        }
    environment = describe_environment() | {"command": "python -m benchmarks.start"}
    text = json.dumps({"environment": environment, **figures}, indent=2)
    print(text)
    RESULTS.write_text(text + "\n")


def _num_starts() -> int:
    return int(sys.argv[1]) if len(sys.argv) > 1 else STARTS


if __name__ == "__main__":
    main()
