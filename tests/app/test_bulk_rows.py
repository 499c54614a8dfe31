"""Series of a file as a model takes them: context, covariates and the stamps of the steps ahead."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from app.bulk.options import Aim, BulkOptions
from app.bulk.rows import RowMaker
from app.bulk.run import BulkRun, BulkSummary
from app.calendar import Frequency
from app.calendar_features import CalendarFeatures
from app.errors import InvalidInputError
from app.files.series import FileSeries
from tests.bulk_runs import EngineForecaster, options_for
from tests.tiny_artifact import tiny_artifact

NUM_STEPS = 30
MONTHS = [str(month) for month in np.arange("2020-01", "2023-01", dtype="M8[M]")]


@pytest.fixture(scope="module")
def forecaster() -> EngineForecaster:
    return EngineForecaster(tiny_artifact(past_covariates=("price",), future_covariates=("promo",)))


def rows_of(item_id: str, ahead: int) -> list[str]:
    """Return rows of a series; those ahead have promo alone."""
    known = [f"{item_id},{MONTHS[i]}-01,{50 + i},{i % 7},{i % 2}" for i in range(NUM_STEPS)]
    later = [f"{item_id},{MONTHS[NUM_STEPS + i]}-01,,,1" for i in range(ahead)]
    return known + later


async def run(folder: Path, forecaster: EngineForecaster, rows: list[str]) -> BulkSummary:
    source = folder / "data.csv"
    source.write_text("\n".join(["item_id,timestamp,target,price,promo", *rows]))
    options = options_for(folder, horizon=3)
    return await BulkRun(source, options, folder / "work", forecaster).run()


async def test_covariates_of_the_file_reach_the_model(
    tmp_path: Path, forecaster: EngineForecaster
) -> None:
    await run(tmp_path, forecaster, rows_of("A", ahead=3))
    steps = np.arange(NUM_STEPS, dtype=np.float32)
    promo = np.full((1, NUM_STEPS + 6, 1), np.nan, np.float32)
    promo[0, : NUM_STEPS + 3, 0] = [*(steps % 2), 1, 1, 1]
    quantiles = await forecaster.infer(
        {
            "past_target": 50 + steps[np.newaxis],
            "sequence_lens": np.array([NUM_STEPS], np.int32),
            "past_covariates": (steps % 7)[np.newaxis, :, np.newaxis],
            "future_covariates": promo,
        }
    )
    table = pyarrow.parquet.read_table(tmp_path / "forecasts.parquet")
    assert table["0.5"].to_pylist() == quantiles[0, :3, 4].tolist()


async def test_series_whose_future_is_not_told_is_refused(
    tmp_path: Path, forecaster: EngineForecaster
) -> None:
    rows = rows_of("A", ahead=2) + rows_of("B", ahead=3)
    summary = await run(tmp_path, forecaster, rows)
    assert (summary.num_refused, summary.num_rows) == (1, 3)
    refusal = json.loads((tmp_path / "errors.jsonl").read_text())
    assert refusal["item_id"] == "A"
    assert "column promo must tell 3 steps after the last value" in refusal["error"]


async def test_file_without_a_covariate_is_refused(
    tmp_path: Path, forecaster: EngineForecaster
) -> None:
    (tmp_path / "data.csv").write_text("item_id,timestamp,target,promo\nA,2024-01-01,1,0\n")
    run = BulkRun(tmp_path / "data.csv", options_for(tmp_path), tmp_path / "work", forecaster)
    with pytest.raises(InvalidInputError, match="price"):
        await run.run()


def test_features_of_the_calendar_follow_the_covariates_of_the_file(
    forecaster: EngineForecaster,
) -> None:
    features = ("month_sin", "month_cos")
    card = forecaster.model.card.model_copy(
        update={"calendar_features": features, "past_covariates": ()}
    )
    promo = np.arange(NUM_STEPS + 3, dtype=np.float64)
    start = np.datetime64("2020-02-01", "us")
    series = FileSeries(
        item_id="A",
        target=np.ones(NUM_STEPS),
        start=start,
        freq=Frequency.parse("M"),
        future_covariates={"promo": promo},
    )
    aim = Aim.of(BulkOptions(output=Path("o"), errors=Path("e"), horizon=3), card)
    future = RowMaker(aim).to_row(0, series).future_covariates
    calendar = CalendarFeatures(features, Frequency.parse("M"), None)
    assert future[: NUM_STEPS + 3, 0].tolist() == promo.tolist()
    assert np.isnan(future[NUM_STEPS + 3 :, 0]).all()
    np.testing.assert_array_equal(
        future[:, 1:], calendar.compute(start.item(), 0, NUM_STEPS + card.horizon)
    )


def test_model_with_categories_is_refused(forecaster: EngineForecaster) -> None:
    card = forecaster.model.card.model_copy(update={"static_categories": {"region": ("north",)}})
    with pytest.raises(InvalidInputError, match="needs categories, region"):
        Aim.of(BulkOptions(output=Path("o"), errors=Path("e")), card)


async def test_series_that_would_leave_the_calendar_is_refused(
    tmp_path: Path, forecaster: EngineForecaster
) -> None:
    late = [f"Z,9999-{month:02}-01,1,1,1" for month in range(1, 13)]
    rows = [*rows_of("A", ahead=3), *late[:-3], *(f"{row[:13]},,1" for row in late[-3:])]
    rows += [f"Z9,9999-{month:02}-01,1,1,1" for month in range(1, 10)]
    summary = await run(tmp_path, forecaster, rows)
    lines = [json.loads(line) for line in (tmp_path / "errors.jsonl").read_text().splitlines()]
    assert [line["item_id"] for line in lines] == ["Z9"]
    assert summary.num_rows == 6


async def test_row_that_is_wrong_is_named(tmp_path: Path, forecaster: EngineForecaster) -> None:
    rows = [*rows_of("A", ahead=3), "B,2020-01-01,many,1,1", *rows_of("C", ahead=3)]
    summary = await run(tmp_path, forecaster, rows)
    refusal = json.loads((tmp_path / "errors.jsonl").read_text())
    assert refusal == {
        "item_id": "B",
        "error": "column target, row 35: 'many' is not a number",
    }
    assert summary.num_rows == 6


async def test_context_is_cut_to_what_the_model_takes(
    tmp_path: Path, forecaster: EngineForecaster
) -> None:
    months = np.arange("2000-01", "2008-01", dtype="M8[M]")
    rows = [f"A,{month}-01,{10 + i % 5},1,1" for i, month in enumerate(months)]
    rows += [f"A,{month}-01,,,1" for month in np.arange("2008-01", "2008-04", dtype="M8[M]")]
    await run(tmp_path, forecaster, rows)
    table = pyarrow.parquet.read_table(tmp_path / "forecasts.parquet")
    assert [stamp.strftime("%Y-%m") for stamp in table["timestamp"].to_pylist()] == [
        "2008-01",
        "2008-02",
        "2008-03",
    ]
