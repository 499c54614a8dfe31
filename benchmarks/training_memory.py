"""Memory of training from a Parquet file, streamed and read at once.

python -m benchmarks.training_memory [MILLIONS_OF_ROWS...]

Each file holds daily series of 1,000 rows. Both ways take a few steps of one network; what counts
is the most memory that the command ever had resident, pages of mapped files included, and its CPU
time. Files of more than ten million rows are streamed only: reading them at once may not fit. The
card that a streamed training writes must equal that of one that read the same file at once. Prints
figures and writes benchmarks/results/training_memory.json.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from benchmarks.environment import describe_environment
from models.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "training_memory.json"
MILLIONS = (1, 10, 50)
MOST_AT_ONCE = 10
LENGTH = 1000
ITEMS_A_TIME = 500
SEED = 7
OPTIONS = ("--horizon=28", "--members=1", "--max-steps=3", "--batch-size=16", "--hidden-size=16")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one training took."""

    rows: int
    file_mib: int
    way: str
    peak_resident_mib: int
    cpu_s: float
    wall_s: float


def write_file(path: Path, num_items: int) -> None:
    """Write daily series, item after item, in row groups that know nothing of items."""
    generator = np.random.default_rng(SEED)
    days = np.datetime64("2020-01-01", "D") + np.arange(LENGTH)
    writer: pyarrow.parquet.ParquetWriter | None = None
    for first in range(0, num_items, ITEMS_A_TIME):
        count = min(ITEMS_A_TIME, num_items - first)
        names = np.char.add("item-", np.arange(first, first + count).astype(str))
        table = pa.table(
            {
                "item_id": np.repeat(names, LENGTH),
                "timestamp": np.tile(days.astype("M8[us]"), count),
                "target": generator.gamma(2.0, 50.0, count * LENGTH).round(1),
            }
        )
        writer = writer or pyarrow.parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def train(data: Path, output: Path, way: str) -> Cost:
    """Run the command and measure it, its start too."""
    command = [sys.executable, "-m", "app", "train", str(data), f"--output={output}", *OPTIONS]
    started = time.monotonic()
    process = subprocess.Popen([*command, f"--{way}"], cwd=ROOT, stdout=subprocess.DEVNULL)  # noqa: S603
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return Cost(
        rows=pyarrow.parquet.ParquetFile(data).metadata.num_rows,
        file_mib=round(data.stat().st_size / 2**20),
        way=way,
        peak_resident_mib=round(usage.ru_maxrss / 1024),
        cpu_s=round(usage.ru_utime + usage.ru_stime, 1),
        wall_s=round(time.monotonic() - started, 1),
    )


def measure(millions: int, folder: Path) -> list[Cost]:
    """Train from one file, in one way or in both."""
    data = folder / f"{millions}.parquet"
    write_file(data, millions * 1_000_000 // LENGTH)
    ways = ("stream", "no-stream") if millions <= MOST_AT_ONCE else ("stream",)
    costs = [train(data, folder / f"{millions}-{way}", way) for way in ways]
    cards = [load_checkpoint(folder / f"{millions}-{way}").training for way in ways]
    assert all(card == cards[0] for card in cards)
    data.unlink()
    for cost in costs:
        print(json.dumps(asdict(cost)), flush=True)
    return costs


def main() -> None:
    """Measure, print and record."""
    sizes = [int(argument) for argument in sys.argv[1:]] or MILLIONS
    with tempfile.TemporaryDirectory() as folder:
        costs = [asdict(cost) for size in sizes for cost in measure(size, Path(folder))]
    report = {"environment": describe_environment(("lightning", "polars", "pyarrow"))}
    RESULTS.write_text(f"{json.dumps(report | {'trainings': costs}, indent=2)}\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
