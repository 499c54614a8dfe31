"""Bulk runs for tests: a small file, the tiny model in this process, and a run to be killed."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray
from typing_extensions import override

from app.bulk.forecaster import BatchLimits, BulkForecaster, BulkModel
from app.bulk.options import BulkOptions
from app.bulk.run import BulkRun, Progress
from app.runner.engine import OrtEngine
from app.tensors import Tensors

CHUNK_SIZE = 8


class EngineForecaster(BulkForecaster):
    """Runs the model in this process."""

    def __init__(self, model: bytes) -> None:
        self._engine = OrtEngine.from_bytes(model, "cpu")
        self.model = BulkModel(
            "tiny", 1, self._engine.file_digest, self._engine.card, "onnxruntime here"
        )
        self.limits = BatchLimits(max_batch_size=4, max_batch_steps=32_768)
        self.concurrency = 3
        self.num_batches = 0

    @override
    async def infer(self, inputs: Tensors) -> NDArray[np.float32]:
        self.num_batches += 1
        await asyncio.sleep(0)
        quantiles: NDArray[np.float32] = self._engine.run(inputs, ["quantiles"])["quantiles"]
        return quantiles


def monthly_table(num_series: int) -> pa.Table:
    """Return series of different lengths, some with gaps, in long format."""
    generator = np.random.default_rng(6)
    names: list[str] = []
    stamps: list[NDArray[np.datetime64]] = []
    values: list[NDArray[np.float64]] = []
    for index in range(num_series):
        length = int(generator.integers(13, 60))
        start = np.datetime64("2015-01", "M") + int(generator.integers(0, 24))
        target = generator.gamma(2.0, 50.0, length).round(1)
        target[3] = np.nan if index % 5 == 0 else target[3]
        names += [f"item-{index:03}"] * length
        stamps.append(np.arange(start, start + length).astype("M8[us]"))
        values.append(target)
    return pa.table(
        {
            "item_id": names,
            "timestamp": np.concatenate(stamps),
            "target": pa.array(np.concatenate(values), from_pandas=True),
        }
    )


def write_monthly(path: Path, num_series: int) -> Path:
    """Write ``monthly_table`` as a Parquet file."""
    pyarrow.parquet.write_table(monthly_table(num_series), path)
    return path


def options_for(folder: Path, name: str = "forecasts.parquet", **asked: Any) -> BulkOptions:
    """Return options with small chunks and everything in one folder."""
    output, errors = folder / name, folder / "errors.jsonl"
    return BulkOptions(output=output, errors=errors, chunk_size=CHUNK_SIZE, **asked)


def main() -> None:
    """Run ``MODEL SOURCE FOLDER`` and print a line for every chunk."""
    model, source, folder = map(Path, sys.argv[1:])
    forecaster = EngineForecaster(model.read_bytes())
    run = BulkRun(source, options_for(folder), folder / "work", forecaster)

    def report(progress: Progress) -> None:
        print(progress.done, flush=True)  # noqa: T201 - the test reads it

    asyncio.run(run.run(report))


if __name__ == "__main__":
    main()
