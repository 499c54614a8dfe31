"""Forecasts a large file beside the raw limit of its model: python -m benchmarks.bulk [NUM_SERIES].

The limit is ONNX Runtime alone: batches of the same run straight through one session per core, once
before the command and once after it, since machines are shared. Prints figures and writes
benchmarks/results/bulk.json.
"""

import asyncio
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray
from typing_extensions import override

from app.artifact.directory import MODEL_FILE
from app.bulk.forecaster import BulkForecaster, BulkModel
from app.bulk.local import LIMITS
from app.bulk.options import BulkOptions
from app.bulk.run import BulkRun
from app.cores import count_cores
from app.runner.engine import OrtEngine
from app.tensors import Tensors
from benchmarks.environment import describe_environment
from tests.e2e.service import serving

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "bulk.json"
REPOSITORY = ROOT / "model_repository"
MODEL = REPOSITORY / "monthly" / "1" / MODEL_FILE
NUM_SERIES = 100_000
SHORTEST, LONGEST = 36, 120
SEED = 6
SAMPLED = 5
"""Every so many batches measure the limit."""

Figures = dict[str, float | int | str]


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds on the clock and of all cores, and the most memory that was in use, in MiB."""

    wall_s: float
    cpu_s: float
    peak_mib: float = 0.0


class Recorder(BulkForecaster):
    """Keeps the batches of a run and answers ones."""

    def __init__(self) -> None:
        engine = OrtEngine.from_file(MODEL, "cpu")
        self.model = BulkModel("monthly", 1, engine.file_digest, engine.card, "nothing")
        self.limits = LIMITS["cpu"]
        self.concurrency = 1
        self.batches: list[Tensors] = []

    @override
    async def infer(self, inputs: Tensors) -> NDArray[np.float32]:
        self.batches.append(inputs)
        card = self.model.card
        shape = (len(inputs["past_target"]), card.horizon, len(card.quantile_levels))
        return np.ones(shape, np.float32)


def write_file(path: Path, num_series: int) -> None:
    """Write monthly series of different lengths, 1,000 at a time."""
    generator = np.random.default_rng(SEED)
    writer: pyarrow.parquet.ParquetWriter | None = None
    for first in range(0, num_series, 1000):
        count = min(1000, num_series - first)
        lengths = generator.integers(SHORTEST, LONGEST, count, endpoint=True)
        names = np.char.add("item-", np.arange(first, first + count).astype(str))
        starts = generator.integers(0, 60, count)
        steps = np.concatenate([np.arange(s, s + n) for s, n in zip(starts, lengths, strict=True)])
        table = pa.table(
            {
                "item_id": np.repeat(names, lengths),
                "timestamp": (np.datetime64("2010-01", "M") + steps).astype("M8[us]"),
                "target": generator.gamma(2.0, 50.0, int(lengths.sum())).round(1),
            }
        )
        writer = writer or pyarrow.parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


async def record_batches(data: Path, folder: Path) -> tuple[list[Tensors], Cost]:
    """Return the batches of a run, and what all but the model costs."""
    recorder = Recorder()
    options = BulkOptions(output=folder / "ones.parquet", errors=folder / "ones.errors.jsonl")
    wall, cpu = time.monotonic(), time.process_time()
    await BulkRun(data, options, folder / "ones", recorder).run()
    return recorder.batches, Cost(time.monotonic() - wall, time.process_time() - cpu)


def run_raw(batches: list[Tensors], num_processes: int) -> Cost:
    """Run batches in as many processes, each with a session of one thread."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(num_processes + 1)
    answers = context.SimpleQueue()
    processes = [
        context.Process(target=_run_share, args=(batches[i::num_processes], barrier, answers))
        for i in range(num_processes)
    ]
    for process in processes:
        process.start()
    barrier.wait()
    started = time.monotonic()
    cpu_s = sum(answers.get() for _ in processes)
    wall_s = time.monotonic() - started
    for process in processes:
        process.join()
    return Cost(wall_s, cpu_s)


def _run_share(
    batches: list[Tensors], barrier: Barrier, answers: "multiprocessing.SimpleQueue[float]"
) -> None:
    engine = OrtEngine.from_file(MODEL, "cpu")
    engine.run(batches[0], ["quantiles"])
    barrier.wait()
    started = time.process_time()
    for batch in batches:
        engine.run(batch, ["quantiles"])
    answers.put(time.process_time() - started)


def run_command(data: Path, output: Path, *options: str) -> Cost:
    """Run ``gatecast forecast`` and measure it whole, its start and its processes too."""
    command = [sys.executable, "-m", "app", "forecast", str(data), "--model=monthly"]
    command += [f"--output={output}", "--quiet", *options]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    with subprocess.Popen(command, cwd=ROOT) as process:  # noqa: S603 - our own command
        watch = _MemoryWatch(process.pid)
        status = process.wait()
        wall_s = time.monotonic() - started
        peak_mib = watch.stop()
    assert status == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(wall_s, cpu_s, peak_mib)


class _MemoryWatch(threading.Thread):
    """Reads the memory of a process and its children, shared pages counted once."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._stopped = threading.Event()
        self._peak = 0.0
        self.start()

    @override
    def run(self) -> None:
        while not self._stopped.wait(0.2):
            self._peak = max(self._peak, sum(map(_proportional_mib, _family(self._pid))))

    def stop(self) -> float:
        """Return the most that was seen."""
        self._stopped.set()
        self.join()
        return self._peak


def _family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *map(int, children)]


def _proportional_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


async def measure(num_series: int, folder: Path) -> Figures:
    """Measure everything in one run."""
    cores = count_cores()
    data, small = folder / "data.parquet", folder / "small.parquet"
    write_file(data, num_series)
    write_file(small, num_series // 10)
    batches, rest = await record_batches(data, folder)
    sample = batches[::SAMPLED]
    num_sampled = sum(len(batch["past_target"]) for batch in sample)
    here = (f"--repository={REPOSITORY}", "--device=cpu")
    of_small = run_command(small, folder / "small-out.parquet", *here)
    async with serving(REPOSITORY, runners=cores, access_log=False) as service:
        url = f"--url=http://127.0.0.1:{service.port}"
        there = await asyncio.to_thread(run_command, small, folder / "remote.parquet", url)
    first = run_raw(sample, cores)
    whole = run_command(data, folder / "out.parquet", *here)
    second = run_raw(sample, cores)
    limit_s = (first.wall_s + second.wall_s) / 2 / num_sampled
    limit_cpu_s = (first.cpu_s + second.cpu_s) / 2 / num_sampled
    return {
        "series": num_series,
        "rows of the file": pyarrow.parquet.ParquetFile(data).metadata.num_rows,
        "cores": cores,
        "raw ONNX Runtime, series/s, before": round(num_sampled / first.wall_s),
        "raw ONNX Runtime, series/s, after": round(num_sampled / second.wall_s),
        "gatecast forecast, series/s": round(num_series / whole.wall_s),
        "share of the raw limit": round(limit_s * num_series / whole.wall_s, 3),
        "share of the raw limit, by CPU time": round(limit_cpu_s * num_series / whole.cpu_s, 3),
        "CPU time per series beside the model, us": round(rest.cpu_s / num_series * 1e6, 1),
        "peak memory of all processes, MiB": round(whole.peak_mib),
        "series of the small file": num_series // 10,
        "gatecast forecast of the small file, series/s": round(num_series / 10 / of_small.wall_s),
        "gatecast forecast --url of the small file, series/s": round(
            num_series / 10 / there.wall_s
        ),
        "peak memory of all processes with the small file, MiB": round(of_small.peak_mib),
        "load of the machine, 1 min": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    """Measure, print and record."""
    num_series = int(sys.argv[1]) if len(sys.argv) > 1 else NUM_SERIES
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure(num_series, Path(folder)))
    report = {"environment": describe_environment(("pyarrow", "urllib3")), "figures": figures}
    text = json.dumps(report, indent=2)
    print(text)
    RESULTS.write_text(f"{text}\n")


if __name__ == "__main__":
    main()
