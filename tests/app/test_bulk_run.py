"""Bulk runs: complete, the same whatever interrupts them, and each bad series told apart."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from numpy.typing import NDArray
from typing_extensions import override

from app.bulk.journal import Journal
from app.bulk.options import BulkOptions
from app.bulk.run import BulkRun, BulkSummary, Progress
from app.errors import BulkRunError, EngineError, InvalidInputError, ModelOutputError
from app.tensors import Tensors
from tests.bulk_runs import (
    CHUNK_SIZE,
    EngineForecaster,
    monthly_table,
    options_for,
    write_monthly,
)
from tests.tiny_artifact import tiny_artifact

NUM_SERIES = 30
HORIZON = 6


@pytest.fixture(scope="module")
def model() -> bytes:
    return tiny_artifact(context_length=512)


@pytest.fixture
def forecaster(model: bytes) -> EngineForecaster:
    return EngineForecaster(model)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_monthly(tmp_path / "data.parquet", NUM_SERIES)


async def complete(
    source: Path, options: BulkOptions, forecaster: EngineForecaster, folder: str = "work"
) -> BulkSummary:
    return await BulkRun(source, options, source.parent / folder, forecaster).run()


class Stopping(EngineForecaster):
    """Fails at one batch."""

    def __init__(self, model: bytes, batch: int) -> None:
        super().__init__(model)
        self.concurrency = 1
        self._batch = batch

    @override
    async def infer(self, inputs: Tensors) -> NDArray[np.float32]:
        if self.num_batches == self._batch:
            raise EngineError("stopped by the test")
        return await super().infer(inputs)


async def test_every_series_is_forecast_in_order(
    source: Path, tmp_path: Path, forecaster: EngineForecaster
) -> None:
    options = options_for(tmp_path)
    summary = await complete(source, options, forecaster)
    table = pyarrow.parquet.read_table(options.output)
    assert summary == BulkSummary(NUM_SERIES, 0, NUM_SERIES * HORIZON, 0)
    assert table["item_id"].to_pylist() == [
        f"item-{index:03}" for index in range(NUM_SERIES) for _ in range(HORIZON)
    ]


async def test_stamps_go_on_after_the_last_value(
    source: Path, tmp_path: Path, forecaster: EngineForecaster
) -> None:
    options = options_for(tmp_path, horizon=2)
    await complete(source, options, forecaster)
    given, got = pyarrow.parquet.read_table(source), pyarrow.parquet.read_table(options.output)
    last = given["timestamp"].to_numpy()[given["item_id"].to_numpy() == "item-007"][-1]
    ahead = got["timestamp"].to_numpy()[got["item_id"].to_numpy() == "item-007"]
    assert (ahead.astype("M8[M]") - last.astype("M8[M]")).tolist() == [1, 2]


async def test_numbers_are_those_of_the_model(
    source: Path, tmp_path: Path, forecaster: EngineForecaster
) -> None:
    options = options_for(tmp_path, quantile_levels=(0.1, 0.55))
    await complete(source, options, forecaster)
    given, got = monthly_table(NUM_SERIES), pyarrow.parquet.read_table(options.output)
    target = given["target"].to_numpy()[given["item_id"].to_numpy() == "item-004"]
    alone = await forecaster.infer(
        {
            "past_target": target[np.newaxis].astype(np.float32),
            "sequence_lens": np.array([len(target)], np.int32),
        }
    )
    rows = got.filter(pa.compute.equal(got["item_id"], "item-004"))
    between = (alone[0, :, 4] + alone[0, :, 5]) / 2
    np.testing.assert_allclose(rows["0.1"].to_numpy(), alone[0, :, 0], rtol=1e-4)
    np.testing.assert_allclose(rows["0.55"].to_numpy(), between, rtol=1e-4)


@pytest.mark.parametrize("batch", [0, 1, 5, 7])
async def test_resumed_run_gives_the_same_bytes_without_doing_work_twice(
    source: Path, tmp_path: Path, model: bytes, batch: int
) -> None:
    whole = EngineForecaster(model)
    options, other = options_for(tmp_path), options_for(tmp_path, "other.parquet")
    await complete(source, options, whole)
    stopping = Stopping(model, batch)
    with pytest.raises(EngineError, match="stopped"):
        await complete(source, other, stopping, "second")
    again = EngineForecaster(model)
    summary = await complete(source, other, again, "second")
    assert other.output.read_bytes() == options.output.read_bytes()
    assert summary.num_resumed % CHUNK_SIZE == 0
    assert again.num_batches < whole.num_batches or summary.num_resumed == 0


async def test_finished_run_is_only_written_again(
    source: Path, tmp_path: Path, model: bytes
) -> None:
    options = options_for(tmp_path)
    await complete(source, options, EngineForecaster(model))
    again = EngineForecaster(model)
    summary = await complete(source, options, again)
    assert (again.num_batches, summary.num_resumed) == (0, NUM_SERIES)


async def test_progress_counts_series_up_to_all(
    source: Path, tmp_path: Path, forecaster: EngineForecaster
) -> None:
    seen: list[Progress] = []
    await BulkRun(source, options_for(tmp_path), tmp_path / "work", forecaster).run(seen.append)
    assert [progress.done for progress in seen] == sorted(progress.done for progress in seen)
    assert (seen[0].done, seen[-1].done) == (0, NUM_SERIES)
    assert {progress.total for progress in seen} == {NUM_SERIES}


async def test_other_file_is_noticed_and_the_run_begins_anew(
    source: Path, tmp_path: Path, model: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(EngineError, match="stopped"):
        await complete(source, options_for(tmp_path), Stopping(model, 5))
    write_monthly(source, NUM_SERIES + 1)
    summary = await complete(source, options_for(tmp_path), EngineForecaster(model))
    assert "the file changed since this run was interrupted: beginning anew" in caplog.text
    assert (summary.num_resumed, summary.num_series) == (0, NUM_SERIES + 1)


@pytest.mark.parametrize("asked", [{"horizon": 3}, {"quantile_levels": (0.5,)}], ids=str)
async def test_other_option_is_noticed_and_the_run_begins_anew(
    source: Path,
    tmp_path: Path,
    model: bytes,
    caplog: pytest.LogCaptureFixture,
    asked: dict[str, Any],
) -> None:
    with pytest.raises(EngineError, match="stopped"):
        await complete(source, options_for(tmp_path), Stopping(model, 5))
    summary = await complete(source, options_for(tmp_path, **asked), EngineForecaster(model))
    assert "what is asked for changed since" in caplog.text
    assert summary.num_resumed == 0


async def test_other_model_is_noticed(
    source: Path, tmp_path: Path, model: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(EngineError, match="stopped"):
        await complete(source, options_for(tmp_path), Stopping(model, 5))
    other = EngineForecaster(tiny_artifact(context_length=512, hidden_size=6))
    await complete(source, options_for(tmp_path), other)
    assert "the model changed since" in caplog.text


class Refusing(EngineForecaster):
    """Gives no finite numbers for any batch with a series of one length."""

    def __init__(self, model: bytes, length: int) -> None:
        super().__init__(model)
        self._length = length

    @override
    async def infer(self, inputs: Tensors) -> NDArray[np.float32]:
        if self._length in inputs["sequence_lens"]:
            raise ModelOutputError("the model gave numbers that are not finite")
        return await super().infer(inputs)


async def test_series_without_finite_forecast_does_not_harm_its_batch(
    source: Path, tmp_path: Path, model: bytes
) -> None:
    given = monthly_table(NUM_SERIES)["item_id"].to_pylist()
    lengths = {name: given.count(name) for name in dict.fromkeys(given)}
    bad = [name for name, length in lengths.items() if length == lengths["item-011"]]
    options = options_for(tmp_path)
    summary = await complete(source, options, Refusing(model, lengths["item-011"]))
    lines = [json.loads(line) for line in options.errors.read_text().splitlines()]
    assert [line["item_id"] for line in lines] == bad
    assert "not finite" in lines[0]["error"]
    assert summary.num_rows == (NUM_SERIES - len(bad)) * HORIZON


async def test_series_without_values_goes_to_the_errors(
    tmp_path: Path, forecaster: EngineForecaster
) -> None:
    source = tmp_path / "data.csv"
    source.write_text("item_id,timestamp,target\nA,2024-01-01,\nB,2024-01-01,1\nB,2024-02-01,2\n")
    options = options_for(tmp_path)
    summary = await complete(source, options, forecaster)
    assert (summary.num_series, summary.num_refused) == (2, 1)
    assert json.loads(options.errors.read_text())["item_id"] == "A"


async def test_errors_of_an_earlier_run_do_not_stay(
    source: Path, tmp_path: Path, forecaster: EngineForecaster
) -> None:
    options = options_for(tmp_path)
    options.errors.write_text("old")
    await complete(source, options, forecaster)
    assert not options.errors.exists()


async def test_second_process_is_refused(
    source: Path, tmp_path: Path, forecaster: EngineForecaster
) -> None:
    with Journal(tmp_path / "work", {}), pytest.raises(BulkRunError, match="in use"):
        await complete(source, options_for(tmp_path), forecaster)


async def test_cancelled_run_can_be_resumed(source: Path, tmp_path: Path, model: bytes) -> None:
    options = options_for(tmp_path)
    begun = asyncio.Event()
    run = BulkRun(source, options, tmp_path / "work", EngineForecaster(model))
    task = asyncio.create_task(run.run(lambda p: begun.set() if p.done else None))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    summary = await complete(source, options, EngineForecaster(model))
    assert summary.num_resumed >= CHUNK_SIZE
    assert summary.num_rows == NUM_SERIES * HORIZON


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"horizon": 7}, "horizon must be between 1 and 6"),
        ({"quantile_levels": (0.99,)}, "within 0.1 and 0.9"),
        ({"freq": "D"}, "forecasts M"),
    ],
    ids=["horizon", "levels", "freq"],
)
async def test_what_the_model_can_not_do_is_refused(
    source: Path,
    tmp_path: Path,
    forecaster: EngineForecaster,
    asked: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        await complete(source, options_for(tmp_path, **asked), forecaster)


async def test_nothing_but_bad_series_leaves_errors_and_no_output(
    source: Path, tmp_path: Path, model: bytes
) -> None:
    class Never(EngineForecaster):
        @override
        async def infer(self, inputs: Tensors) -> NDArray[np.float32]:
            raise ModelOutputError("the model gave numbers that are not finite")

    options = options_for(tmp_path)
    summary = await complete(source, options, Never(model))
    assert (summary.num_refused, summary.num_rows) == (NUM_SERIES, 0)
    assert len(options.errors.read_text().splitlines()) == NUM_SERIES
    assert not options.output.exists()
