import datetime as dt
import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from app.errors import InvalidInputError
from models.data import DataOptions, Understanding, load_series
from models.series import Series, SeriesSet

STEPS = DataOptions(season=1)


def read(
    directory: Path, text: str, options: DataOptions | None = None
) -> tuple[SeriesSet, Understanding]:
    path = directory / "data.csv"
    path.write_text(text.replace(" ", "\n") + "\n")
    return load_series(path, options or DataOptions())


def only(items: SeriesSet) -> Series:
    assert len(items.series) == 1
    return items.series[0]


@pytest.mark.parametrize("header", ["item_id,timestamp,target", "unique_id,ds,y"])
def test_both_column_namings_are_read(tmp_path: Path, header: str) -> None:
    items, _ = read(tmp_path, f"{header} a,2024-01-01,1.5 a,2024-02-01,2")
    assert only(items).target.tolist() == [1.5, 2.0]
    assert only(items).start == dt.datetime(2024, 1, 1)
    assert (items.freq, items.season) == ("M", 12)


def test_both_names_of_one_column_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="target or y; both are there"):
        read(tmp_path, "item_id,timestamp,target,y a,1,1,1 a,2,2,2", STEPS)


def test_missing_column_is_named_with_those_there(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidInputError, match="item_id or unique_id; the columns are shop, ds, y"
    ):
        read(tmp_path, "shop,ds,y a,1,1", STEPS)


def test_integer_steps_need_a_season(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="--season"):
        read(tmp_path, "item_id,timestamp,target a,1,1 a,2,2")


def test_integer_steps_are_read(tmp_path: Path) -> None:
    items, _ = read(tmp_path, "unique_id,ds,y a,7,1 a,8,2", DataOptions(season=4))
    assert (only(items).start, items.freq, items.season) == (7, None, 4)


def test_frequency_may_be_told_for_integer_steps(tmp_path: Path) -> None:
    items, _ = read(tmp_path, "unique_id,ds,y a,7,1 a,8,2", DataOptions(freq="MS"))
    assert (items.freq, items.season) == ("M", 12)


def test_gaps_become_missing_values(tmp_path: Path) -> None:
    text = "unique_id,ds,y a,2024-01-01,1 a,2024-01-02,2 a,2024-01-05,5 a,2024-01-06,6"
    items, found = read(tmp_path, text)
    np.testing.assert_array_equal(only(items).target, [1, 2, np.nan, np.nan, 5, 6])
    assert (found.num_gaps, found.num_missing) == (2, 0)


def test_missing_values_are_counted_apart_from_gaps(tmp_path: Path) -> None:
    items, found = read(tmp_path, "unique_id,ds,y a,1,1 a,2, a,3,NaN a,5,5", STEPS)
    np.testing.assert_array_equal(only(items).target, [1, np.nan, np.nan, np.nan, 5])
    assert (found.num_gaps, found.num_missing) == (1, 2)


def test_leading_and_trailing_missing_values_are_cut(tmp_path: Path) -> None:
    items, _ = read(tmp_path, "unique_id,ds,y a,1, a,2,2 a,3,3 a,4,", STEPS)
    assert (only(items).start, only(items).target.tolist()) == (2, [2.0, 3.0])


def test_rows_in_any_order_are_sorted(tmp_path: Path) -> None:
    items, found = read(tmp_path, "unique_id,ds,y b,2,20 a,2,2 b,1,10 a,1,1", STEPS)
    assert [(item.item_id, item.target.tolist()) for item in items.series] == [
        ("b", [10.0, 20.0]),
        ("a", [1.0, 2.0]),
    ]
    assert not found.is_sorted


def test_interleaved_items_count_as_sorted(tmp_path: Path) -> None:
    _, found = read(tmp_path, "unique_id,ds,y a,1,1 b,1,10 a,2,2 b,2,20", STEPS)
    assert found.is_sorted


def test_row_that_repeats_another_counts_once(tmp_path: Path) -> None:
    items, found = read(tmp_path, "unique_id,ds,y a,1,1 a,2,2 a,2,2", STEPS)
    assert (only(items).target.tolist(), found.num_repeated) == ([1.0, 2.0], 1)


def test_conflicting_rows_are_refused_with_their_numbers(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="rows 3, 5 give different values for item a at 2"):
        read(tmp_path, "unique_id,ds,y a,1,1 a,2,2 b,1,1 a,2,3", STEPS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a,1,1 a,2,x", "column y, row 3: 'x' is not a number", id="text"),
        pytest.param("a,1,1 a,2,inf", "column y, row 3: 'inf' is beyond", id="infinity"),
        pytest.param("a,1,1 a,2,1e39", "column y, row 3: '1e39' is beyond", id="float32"),
        pytest.param("a,1,1 ,2,1", "column unique_id, row 3: None is empty", id="no item"),
        pytest.param("a,,1 a,2,1", "column ds, row 2: None is empty", id="no time"),
        pytest.param("a,2024-01-01,1 a,2024-13-01,1", "column ds, row 3: '2024-13-01' is no ISO",
                     id="no date"),
        pytest.param("a,2024-01-01,1 a,2024-01-02T00:00Z,1", "some stamps have a time zone",
                     id="zones"),
    ],
)  # fmt: skip
def test_wrong_cell_is_named_with_its_row(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        read(tmp_path, f"unique_id,ds,y {text}", STEPS)


def test_stamp_off_the_grid_is_named_with_its_row(tmp_path: Path) -> None:
    text = "unique_id,ds,y a,2024-01-01,1 a,2024-01-15,2"
    with pytest.raises(InvalidInputError, match=r"row 3: 2024-01-15 .* whole number of M steps"):
        read(tmp_path, text, DataOptions(freq="MS"))


def test_wrong_year_does_not_fill_the_memory(tmp_path: Path) -> None:
    text = "unique_id,ds,y a,2024-01-01T00:00:00,1 a,9024-01-01T00:00:00,2"
    with pytest.raises(InvalidInputError, match="the longest item is a"):
        read(tmp_path, text, DataOptions(freq="s"))


def test_too_short_series_are_left_out(tmp_path: Path) -> None:
    items, found = read(tmp_path, "unique_id,ds,y a,1,1 a,2,2 b,1,1 c,1, c,2,", STEPS)
    assert (only(items).item_id, found.too_short) == ("a", ("b", "c"))


def test_file_with_only_short_series_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"no series of data\.csv has two values"):
        read(tmp_path, "unique_id,ds,y a,1,1 b,1,1", STEPS)


def test_file_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no rows"):
        read(tmp_path, "unique_id,ds,y", STEPS)


def test_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="can not be read"):
        load_series(tmp_path / "absent.csv", STEPS)


def test_unused_columns_are_named(tmp_path: Path) -> None:
    _, found = read(tmp_path, "unique_id,ds,y,price,shop a,1,1,2,x a,2,2,2,x", STEPS)
    assert found.ignored == ("price", "shop")


def test_offsets_from_utc_that_change_are_read_as_utc(tmp_path: Path) -> None:
    text = "unique_id,ds,y a,2024-03-31T01:00+01:00,1 a,2024-03-31T03:00+02:00,2"
    items, _ = read(tmp_path, text)
    assert (only(items).start, items.freq) == (dt.datetime(2024, 3, 31, 0), "h")


def test_parquet_is_read(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    days = [dt.date(2024, 1, 1), dt.date(2024, 1, 2), dt.date(2024, 1, 7)]
    pl.DataFrame({"item_id": [1, 1, 1], "timestamp": days, "target": [1, None, 3]}).write_parquet(
        path
    )
    items, _ = load_series(path, DataOptions())
    assert (only(items).item_id, items.freq, len(only(items).target)) == ("1", "D", 7)


def test_parquet_rows_are_counted_from_one(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    pl.DataFrame({"item_id": ["a", None], "timestamp": [1, 2], "target": [1.0, 2.0]}).write_parquet(
        path
    )
    with pytest.raises(InvalidInputError, match="column item_id, row 2"):
        load_series(path, STEPS)


COVARIATES = DataOptions(
    season=1, past_covariates=("p",), future_covariates=("f",), static_covariates=("s",)
)


def test_covariates_follow_the_grid_and_reach_ahead(tmp_path: Path) -> None:
    text = "unique_id,ds,y,p,f,s a,1,,9,9,7 a,2,2,1,10, a,4,4,2,30,7 a,5,,3,40,7 a,6,,4,50,7"
    item = only(read(tmp_path, text, COVARIATES)[0])
    np.testing.assert_array_equal(item.past_covariates[:, 0], [1, np.nan, 2])
    np.testing.assert_array_equal(item.future_covariates[:, 0], [10, np.nan, 30, 40, 50])
    assert (item.known_ahead, item.static_covariates.tolist()) == (2, [7.0])


def test_changing_static_covariate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="column s, row 3: a static covariate"):
        read(tmp_path, "unique_id,ds,y,p,f,s a,1,1,1,1,7 a,2,2,2,2,8", COVARIATES)


def test_absent_covariate_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="covariate column p is not in data"):
        read(tmp_path, "unique_id,ds,y a,1,1 a,2,2", COVARIATES)


def test_covariate_named_twice_is_refused(tmp_path: Path) -> None:
    options = DataOptions(season=1, past_covariates=("p",), future_covariates=("p",))
    with pytest.raises(InvalidInputError, match="p is named twice"):
        read(tmp_path, "unique_id,ds,y,p a,1,1,1 a,2,2,1", options)


def test_digest_changes_with_a_value(tmp_path: Path) -> None:
    one, _ = read(tmp_path, "unique_id,ds,y a,1,1 a,2,2", STEPS)
    other, _ = read(tmp_path, "unique_id,ds,y a,1,1 a,2,2.5", STEPS)
    assert one.digest != other.digest


def test_digest_does_not_depend_on_the_season_to_follow(tmp_path: Path) -> None:
    items, _ = read(tmp_path, "unique_id,ds,y a,1,1 a,2,2", STEPS)
    assert replace(items, season=7).digest == items.digest


def test_digest_does_not_depend_on_the_order_of_an_items_rows(tmp_path: Path) -> None:
    one, _ = read(tmp_path, "unique_id,ds,y a,1,1 a,2,2", STEPS)
    other, _ = read(tmp_path, "unique_id,ds,y a,2,2 a,1,1", STEPS)
    assert one.digest == other.digest


CATEGORIES = replace(STEPS, static_covariates=("s",), static_categories=("kind",))
CATEGORY_ROWS = (
    "item_id,timestamp,target,s,kind a,1,1,5,wide a,2,2,,wide b,1,3,6,flat b,2,4,6,"
    " c,1,1,7, c,2,2,7,"
)


def test_categories_are_numbered_after_the_numbers(tmp_path: Path) -> None:
    items, _ = read(tmp_path, CATEGORY_ROWS, CATEGORIES)
    assert items.static_covariates == ("s", "kind")
    assert items.static_categories == (("flat", "wide"),)
    assert [item.static_covariates.tolist() for item in items.series] == [[5, 2], [6, 1], [7, 0]]


def test_categories_of_a_checkpoint_are_kept(tmp_path: Path) -> None:
    options = replace(CATEGORIES, known_categories=(("narrow", "wide"),))
    items, _ = read(tmp_path, CATEGORY_ROWS, options)
    assert [item.static_covariates[1] for item in items.series] == [2, 0, 0]


def test_changing_category_is_refused(tmp_path: Path) -> None:
    rows = "item_id,timestamp,target,s,kind a,1,1,5,wide a,2,2,5,flat"
    with pytest.raises(InvalidInputError, match="column kind, row 3: a static covariate"):
        read(tmp_path, rows, CATEGORIES)


def test_category_column_without_texts_is_refused(tmp_path: Path) -> None:
    rows = "item_id,timestamp,target,s,kind a,1,1,5, a,2,2,5,"
    with pytest.raises(InvalidInputError, match="column kind holds 0 different texts"):
        read(tmp_path, rows, CATEGORIES)


BERLIN = "Europe/Berlin"
CLOCKS_BACK = dt.datetime(2024, 10, 26), dt.datetime(2024, 10, 29)


def read_zoned(directory: Path, first: dt.datetime, last: dt.datetime, every: str) -> SeriesSet:
    """Read a Parquet file of the stamps in Berlin from ``first`` to ``last``."""
    stamps = pl.datetime_range(first, last, every, time_zone=BERLIN, eager=True)
    target = np.arange(len(stamps)) // 2  # the hour that comes twice has equal values
    pl.DataFrame({"item_id": "a", "timestamp": stamps, "target": target}).write_parquet(
        directory / "data.parquet"
    )
    return load_series(directory / "data.parquet", DataOptions())[0]


def test_zoned_hours_are_read_as_utc_over_a_change_of_clocks(tmp_path: Path) -> None:
    items = read_zoned(tmp_path, *CLOCKS_BACK, "1h")
    assert (only(items).start, items.freq) == (dt.datetime(2024, 10, 25, 22), "h")
    assert only(items).target.tolist() == [step // 2 for step in range(74)]


def test_zoned_hours_of_one_offset_keep_their_wall_time(tmp_path: Path) -> None:
    items = read_zoned(tmp_path, dt.datetime(2024, 7, 1), dt.datetime(2024, 7, 2), "1h")
    assert (only(items).start, items.freq) == (dt.datetime(2024, 7, 1), "h")


def test_zoned_midnights_stay_on_their_days(tmp_path: Path) -> None:
    items = read_zoned(tmp_path, *CLOCKS_BACK, "1d")
    assert (only(items).start, items.freq) == (dt.datetime(2024, 10, 26), "D")
    assert len(only(items).target) == 4


def test_midnights_with_several_offsets_stay_on_their_days(tmp_path: Path) -> None:
    text = "unique_id,ds,y a,2024-03-30T00:00+01:00,1 a,2024-03-31T00:00+01:00,2"
    items, _ = read(tmp_path, f"{text} a,2024-04-01T00:00+02:00,3")
    assert (only(items).start, items.freq) == (dt.datetime(2024, 3, 30), "D")


def test_months_may_lack_a_day(tmp_path: Path) -> None:
    items, _ = read(tmp_path, "unique_id,ds,y a,2024-01,1 a,2024-02,2")
    assert (only(items).start, items.freq) == (dt.datetime(2024, 1, 1), "M")


@pytest.mark.parametrize("options", [DataOptions(freq="D"), DataOptions(season=7)])
def test_dates_without_dashes_are_refused(tmp_path: Path, options: DataOptions) -> None:
    with pytest.raises(InvalidInputError, match="such as 2024-01-31"):
        read(tmp_path, "unique_id,ds,y a,20240131,1 a,20240201,2", options)


def test_steps_of_eight_digits_that_are_no_dates_are_read(tmp_path: Path) -> None:
    items, _ = read(tmp_path, "unique_id,ds,y a,20240131,1 a,20240132,2", STEPS)
    assert only(items).start == 20240131


def test_words_for_missing_numbers_are_names_and_categories_elsewhere(tmp_path: Path) -> None:
    options = replace(STEPS, static_categories=("kind",))
    items, _ = read(tmp_path, "item_id,timestamp,target,kind NA,1,1,None NA,2,NA,None NA,3,3,None",
                    options)  # fmt: skip
    assert (only(items).item_id, items.static_categories) == ("NA", (("None",),))
    np.testing.assert_array_equal(only(items).target, [1, np.nan, 3])


def test_space_around_categories_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("item_id,timestamp,target,kind\na,1,1,north \na,2,2, \n")
    options = replace(STEPS, static_categories=("kind",))
    items, _ = load_series(tmp_path / "data.csv", options)
    assert items.static_categories == (("north",),)


@pytest.mark.parametrize("name", ["data.csv", "data.csv.gz"])
def test_semicolons_and_decimal_commas_are_found(tmp_path: Path, name: str) -> None:
    text = "\nitem_id;timestamp;target;p;f;s\na;1;1,5;2;NA;7\na;2;-,5;3;4,25;7\n"
    with (gzip.open if name.endswith("gz") else open)(tmp_path / name, "wt") as file:
        file.write(text)
    item = only(load_series(tmp_path / name, COVARIATES)[0])
    assert item.target.tolist() == [1.5, -0.5]
    np.testing.assert_array_equal(item.future_covariates[:, 0], [np.nan, 4.25])


def test_comma_in_a_number_between_commas_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="row 2: '1,500' is not a number"):
        read(tmp_path, 'unique_id,ds,y a,1,"1,500" a,2,2', STEPS)


@pytest.mark.parametrize(
    ("rows", "problem"),
    [("a,NA,1 a,2,2", "ds, row 2: 'NA' is no time"), ('"",1,1 a,2,2', "row 2: '' is empty")],
)
def test_missing_item_or_time_is_named_with_its_row(
    tmp_path: Path, rows: str, problem: str
) -> None:
    with pytest.raises(InvalidInputError, match=problem):
        read(tmp_path, f"unique_id,ds,y {rows}", STEPS)
