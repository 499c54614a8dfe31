"""Measures the speed and memory of reading files: python -m benchmarks.file_streaming.

Every case runs in a process of its own. Prints a table and writes
benchmarks/results/file_streaming.json.
"""

import itertools
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

from app.files.raw import FileFormat
from app.files.streaming import SeriesOptions, open_series
from benchmarks.environment import describe_environment

RESULTS = Path(__file__).parent / "results" / "file_streaming.json"
NUM_STEPS = 100
SIZES = (10_000, 100_000)
KINDS: tuple[FileFormat, ...] = ("parquet", "csv")
ITEMS_AT_A_TIME = 1000

Figures = dict[str, float | int | str]


def write_file(path: Path, kind: FileFormat, num_items: int, *, by_time: bool) -> None:
    """Write daily series, some at a time: in order of item, or all items of a day together."""
    schema = pa.schema(
        [("item_id", pa.string()), ("timestamp", pa.date32()), ("target", pa.float64())]
    )
    days = np.arange("2024-01-01", "2024-04-10", dtype="M8[D]")
    names = np.array([f"item-{number:06}" for number in range(num_items)])
    generator = np.random.default_rng(1)
    parts = days[:, None] if by_time else names.reshape(-1, ITEMS_AT_A_TIME)
    with _open_writer(path, kind, schema) as writer:
        for part in parts:
            item = np.tile(names, len(part)) if by_time else np.repeat(part, NUM_STEPS)
            day = np.repeat(part, num_items) if by_time else np.tile(days, len(part))
            target = generator.gamma(4, 25, len(item)).round(2)
            writer.write_table(pa.table([pa.array(item), pa.array(day), target], schema=schema))


def _open_writer(path: Path, kind: FileFormat, schema: pa.Schema) -> pyarrow.csv.CSVWriter:
    if kind == "csv":
        return pyarrow.csv.CSVWriter(str(path), schema)
    if kind == "parquet":
        return pyarrow.parquet.ParquetWriter(str(path), schema)
    return pyarrow.ipc.new_stream(str(path), schema)


def read_file(path: Path, kind: FileFormat) -> Figures:
    """Go through all series of a file; the growth of memory is that of this process."""
    before = _peak_mib()
    started, cpu = time.perf_counter(), time.process_time()
    with open_series(path, kind, SeriesOptions(mode="lenient")) as stream:
        opened = time.perf_counter()
        num_series = sum(1 for _ in stream)
        finished = time.perf_counter()
        rows, cpu = stream.num_rows, time.process_time() - cpu
    return {
        "rows": rows,
        "series": num_series,
        "file, MiB": round(path.stat().st_size / 2**20, 1),
        "first pass, s": round(opened - started, 2),
        "series, s": round(finished - opened, 2),
        "rows/s": round(rows / (finished - started)),
        "rows/s of processor time": round(rows / cpu),
        "growth of peak memory, MiB": round(_peak_mib() - before, 1),
    }


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(kind: FileFormat, num_items: int, *, by_time: bool) -> Figures:
    """Write a file and read it in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data"
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            pool.apply(write_file, (path, kind, num_items), {"by_time": by_time})
        with context.Pool(1) as pool:
            return pool.apply(read_file, (path, kind))


def main() -> None:
    """Measure all of it; what is measured is kept at once."""
    environment = describe_environment(more_packages=("pyarrow",))
    results: dict[str, Figures] = {}
    for num_items, kind, by_time in itertools.product(SIZES, KINDS, (False, True)):
        name = f"{kind} in order of {'time' if by_time else 'item'}, {num_items} series"
        results[name] = measure(kind, num_items, by_time=by_time)
        print(name, results[name], flush=True)
        content = {"environment": environment, "results": results}
        RESULTS.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
