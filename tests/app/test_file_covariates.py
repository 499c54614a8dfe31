"""Categories and calendar features of series that come from files."""

import numpy as np
import pyarrow as pa
import pytest

from app.bulk.options import Aim
from app.bulk.rows import RowMaker
from app.errors import InvalidInputError
from app.files.cells import Column, read_categories
from app.files.columns import Covariates
from app.files.series import FileSeries, RefusedSeries
from app.files.streaming import SeriesOptions, open_series
from app.gateway.quantiles import QuantileSelection
from tests.fakes import LEVELS, make_card

KNOWN = ("north", "south")
COVARIATES = Covariates(static=("size", "region"), categories={"region": KNOWN})
OPTIONS = SeriesOptions(mode="lenient", freq="M", covariates=COVARIATES)
CARD = make_card(
    static_covariates=("size", "region"),
    static_categories={"region": KNOWN},
    calendar_features=("month_sin", "month_cos"),
)
AIM = Aim(CARD, 2, QuantileSelection.between(LEVELS, LEVELS))


def read(*rows: str) -> list[FileSeries | RefusedSeries]:
    text = "item_id,timestamp,target,size,region\n" + "\n".join(rows)
    with open_series(text.encode(), "csv", OPTIONS) as stream:
        return list(stream)


@pytest.mark.parametrize("kind", [pa.string(), pa.dictionary(pa.int32(), pa.string())])
def test_texts_become_their_places(kind: pa.DataType) -> None:
    cells = pa.chunked_array([pa.array(["south", " north", "east", "", None]).cast(kind)])
    codes = read_categories(Column("region", cells, 2), KNOWN)
    np.testing.assert_array_equal(codes, [2, 1, 0, np.nan, np.nan])


def test_numbers_of_a_column_are_texts_of_a_category() -> None:
    cells = pa.chunked_array([pa.array([17, 18, None])])
    codes = read_categories(Column("store", cells, 2), ("17",))
    np.testing.assert_array_equal(codes, [1, 0, np.nan])


def test_series_keeps_its_category() -> None:
    (series,) = read("a,2024-01,1,5,south", "a,2024-02,2,5,")
    assert isinstance(series, FileSeries)
    assert series.static_covariates == {"size": 5, "region": 2}


def test_changing_category_is_named() -> None:
    (refused,) = read("a,2024-01,1,5,south", "a,2024-02,2,5,north")
    assert isinstance(refused, RefusedSeries)
    assert "row 3: 'north' is another value than item a has before" in refused.reason


def test_row_of_a_bulk_run_has_category_and_calendar() -> None:
    (series,) = read(*(f"a,2024-{month:02},1,5,south" for month in range(1, 7)))
    assert isinstance(series, FileSeries)
    row = RowMaker(AIM).to_row(0, series)
    np.testing.assert_array_equal(row.static_covariates, [5, 2])
    calendar = CARD.calendar
    assert calendar is not None
    start = np.datetime64("2024-01-01", "us").item()
    np.testing.assert_array_equal(row.future_covariates, calendar.compute(start, 0, 6 + 12))


def test_bulk_run_without_stamps_says_what_the_model_needs() -> None:
    series = FileSeries(
        item_id="a",
        target=np.ones(3),
        start=None,
        freq=None,
        static_covariates={"size": 1, "region": 0},
    )
    with pytest.raises(InvalidInputError, match="time stamps are needed"):
        RowMaker(AIM).to_row(0, series)


def test_words_for_missing_numbers_are_categories_like_any_other() -> None:
    cells = pa.chunked_array([pa.array(["NA", "None", " ", None])])
    codes = read_categories(Column("region", cells, 2), ("NA",))
    np.testing.assert_array_equal(codes, [1, 0, np.nan, np.nan])
