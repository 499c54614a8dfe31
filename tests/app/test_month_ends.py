"""Series of a file on the last days of months: their stamps are counted from their first row."""

import numpy as np
import pytest

from app.bulk.options import Aim
from app.bulk.rows import RowMaker
from app.calendar import Frequency
from app.files.columns import Covariates
from app.files.series import FileSeries
from app.files.streaming import SeriesOptions, open_series
from app.gateway.quantiles import QuantileSelection
from app.spacing import Stamps, shift_stamps
from tests.fakes import LEVELS, make_card

AIM = Aim(make_card(), 3, QuantileSelection.between(LEVELS, LEVELS))
NUM_ROWS = 12
COVARIATES = Covariates(past=("price",), future=("promo",), num_ahead=3)


def grid(first_row: str, freq: str, first: int, count: int) -> Stamps:
    start = np.array(first_row, "M8[us]")
    return shift_stamps(start, Frequency.parse(freq), np.arange(first, first + count))


def read(rows: list[str], freq: str, covariates: Covariates) -> FileSeries:
    options = SeriesOptions(freq=freq, covariates=covariates)
    text = "timestamp,target,price,promo\n" + "\n".join(rows)
    with open_series(text.encode(), "csv", options) as stream:
        (series,) = stream
    assert isinstance(series, FileSeries)
    return series


def read_known_from(known: int, first_row: str, freq: str) -> FileSeries:
    """Read a series whose first values are missing."""
    stamps = grid(first_row, freq, 0, NUM_ROWS).astype("M8[D]")
    values = ["" if step < known else str(step) for step in range(NUM_ROWS)]
    rows = [f"{stamp},{value},," for stamp, value in zip(stamps, values, strict=True)]
    return read(rows, freq, Covariates())


@pytest.mark.parametrize("known", range(NUM_ROWS))
@pytest.mark.parametrize("freq", ["M", "Q", "Y", "2M"])
@pytest.mark.parametrize(
    "first_row",
    ["2022-12-28", "2022-12-30", "2022-12-31", "2023-02-28", "2024-02-28", "2022-04-30"],
)
def test_stamps_are_counted_from_the_first_row(first_row: str, freq: str, known: int) -> None:
    series = read_known_from(known, first_row, freq)
    begin = NUM_ROWS - len(series.target)
    assert series.stamps is not None
    assert series.stamps.tolist() == grid(first_row, freq, begin, len(series.target)).tolist()
    assert series.target[known - begin :].tolist() == list(range(known, NUM_ROWS))
    assert np.isnan(series.target[: known - begin]).all()


@pytest.mark.parametrize("first_row", ["2022-12-30", "2022-12-31"])
def test_bulk_forecasts_go_on_after_the_rows(first_row: str) -> None:
    stamps = RowMaker(AIM).stamps_ahead([read_known_from(2, first_row, "M")])
    assert stamps is not None
    assert stamps.tolist() == [grid(first_row, "M", NUM_ROWS, 3).tolist()]


@pytest.mark.parametrize(
    ("first_row", "known", "length"),
    [("2022-12-31", 2, 10), ("2022-12-27", 2, 10), ("2022-12-30", 1, 11), ("2022-12-30", 2, 11)],
)
def test_series_begins_with_its_first_value_where_its_stamp_tells_the_day(
    first_row: str, known: int, length: int
) -> None:
    assert len(read_known_from(known, first_row, "M").target) == length


def test_covariates_begin_with_the_target() -> None:
    rows = ["2022-12-30,,1,10", "2023-02-28,5,3,30", "2023-03-30,6,4,40"]
    ahead = [f"2023-{month:02}-30,,,{month}0" for month in (4, 5, 6)]
    series = read([*rows, *ahead], "M", COVARIATES)
    assert str(series.start) == "2023-01-30T00:00:00.000000"
    assert series.target.tolist() == pytest.approx([np.nan, 5, 6], nan_ok=True)
    assert series.past_covariates["price"].tolist() == pytest.approx([np.nan, 3, 4], nan_ok=True)
    assert series.future_covariates["promo"].tolist() == pytest.approx(
        [np.nan, 30, 40, 40, 50, 60], nan_ok=True
    )
    assert series.num_gaps == 1


def test_row_of_the_anchor_keeps_its_covariates() -> None:
    rows = ["2022-12-30,,1,10", "2023-01-30,,2,20", "2023-02-28,5,3,30"]
    ahead = [f"2023-{month:02}-30,,,{month}0" for month in (3, 4, 5)]
    series = read([*rows, *ahead], "M", COVARIATES)
    assert series.past_covariates["price"].tolist() == [2, 3]
    assert series.num_gaps == 0
