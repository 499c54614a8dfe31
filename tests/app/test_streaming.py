"""Files on disk as streams of series: the same series whatever the size and order of the file."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.ipc
import pytest

from app.errors import GatecastError, InvalidInputError, PayloadTooLargeError
from app.files.columns import Covariates
from app.files.raw import FileFormat, FileLimits
from app.files.rows import hash_names
from app.files.series import FileSeries, RefusedSeries
from app.files.streaming import SeriesOptions, open_series

HEADER = "item_id,timestamp,target\n"
LENIENT = SeriesOptions(mode="lenient", freq="D")
NUM_ITEMS, NUM_STEPS = 900, 200  # more than one piece in every format
FEW_IN_MEMORY = FileLimits(rows_in_memory=20_000)
STREAMED = SeriesOptions(limits=FEW_IN_MEMORY)


def write_csv(frame: pl.DataFrame, path: Path) -> None:
    frame.write_csv(path)


def write_json_lines(frame: pl.DataFrame, path: Path) -> None:
    frame.with_columns(pl.col("timestamp").cast(pl.String)).write_ndjson(path)


def write_parquet(frame: pl.DataFrame, path: Path) -> None:
    frame.write_parquet(path, row_group_size=70_001)


def write_arrow_stream(frame: pl.DataFrame, path: Path) -> None:
    table = frame.to_arrow()
    with pyarrow.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=50_000)


def write_arrow_file(frame: pl.DataFrame, path: Path) -> None:
    frame.write_ipc(path)


WRITERS: dict[str, tuple[Callable[[pl.DataFrame, Path], None], FileFormat]] = {
    "CSV": (write_csv, "csv"),
    "JSON Lines": (write_json_lines, "jsonl"),
    "Parquet": (write_parquet, "parquet"),
    "Arrow stream": (write_arrow_stream, "arrow"),
    "Arrow file": (write_arrow_file, "arrow"),
}


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    """Daily series in order of item; the target tells item and step."""
    days = pl.date_range(pl.date(2020, 1, 1), pl.date(2020, 7, 18), eager=True)
    assert len(days) == NUM_STEPS
    return pl.DataFrame(
        {
            "item_id": np.repeat([f"i{item:05}" for item in range(NUM_ITEMS)], NUM_STEPS),
            "timestamp": pl.concat([days] * NUM_ITEMS),
            "target": np.arange(NUM_ITEMS * NUM_STEPS, dtype=np.float64),
        }
    )


def read(source: Path | bytes, kind: FileFormat, options: SeriesOptions) -> list[FileSeries]:
    with open_series(source, kind, options) as stream:
        return [series for series in stream if isinstance(series, FileSeries)]


def read_csv(*rows: str, options: SeriesOptions = LENIENT) -> list[FileSeries | RefusedSeries]:
    with open_series((HEADER + "\n".join(rows)).encode(), "csv", options) as stream:
        return list(stream)


def check_all(series: list[FileSeries]) -> None:
    assert sorted(str(one.item_id) for one in series) == [f"i{n:05}" for n in range(NUM_ITEMS)]
    for one in series:
        first = int(str(one.item_id)[1:]) * NUM_STEPS
        assert one.target.tolist() == list(range(first, first + NUM_STEPS))
        assert one.start == np.datetime64("2020-01-01", "us")


@pytest.mark.parametrize("name", WRITERS)
def test_long_file_in_order_streams_in_that_order(
    frame: pl.DataFrame, tmp_path: Path, name: str
) -> None:
    write, kind = WRITERS[name]
    write(frame, tmp_path / "data")
    series = read(tmp_path / "data", kind, STREAMED)
    check_all(series)
    assert [one.item_id for one in series] == sorted(str(one.item_id) for one in series)


def test_long_file_in_order_of_time_streams_whole_series(
    frame: pl.DataFrame, tmp_path: Path
) -> None:
    write_parquet(frame.sort("timestamp", "item_id"), tmp_path / "data")
    check_all(read(tmp_path / "data", "parquet", STREAMED))


def test_order_of_series_depends_on_the_file_alone(frame: pl.DataFrame, tmp_path: Path) -> None:
    write_parquet(frame.sample(fraction=1, shuffle=True, seed=1), tmp_path / "data")
    first = read(tmp_path / "data", "parquet", STREAMED)
    with open_series(tmp_path / "data", "parquet", STREAMED) as stream:
        again = [[series.item_id for series in stream] for _ in range(2)]
    assert again == [[one.item_id for one in first]] * 2


@pytest.mark.parametrize("order", ["item_id", "timestamp"])
@pytest.mark.parametrize("options", [STREAMED, SeriesOptions()], ids=["streamed", "in memory"])
def test_series_are_counted(
    frame: pl.DataFrame, tmp_path: Path, order: str, options: SeriesOptions
) -> None:
    path = tmp_path / "data"
    write_parquet(frame.sort(order, maintain_order=True), path)
    with open_series(path, "parquet", options) as stream:
        assert stream.count() == NUM_ITEMS


def test_freq_is_found_where_the_first_rows_have_one_stamp_each(tmp_path: Path) -> None:
    items = [f"i{n}" for n in range(70_000)]
    days = np.repeat(np.array(["2024-01-01", "2024-01-08"], "M8[D]"), len(items))
    rows = pl.DataFrame({"item_id": items * 2, "timestamp": days, "target": [1.0] * len(days)})
    write_parquet(rows, tmp_path / "data")
    with open_series(tmp_path / "data", "parquet", STREAMED) as stream:
        assert (stream.freq, stream.num_rows) == ("W", 140_000)


def test_wrong_cell_far_down_is_refused_with_its_row(frame: pl.DataFrame, tmp_path: Path) -> None:
    write_csv(frame, tmp_path / "data")
    with (tmp_path / "data").open("a") as file:
        file.write("i00899,2020-07-19,many\n")
    row = NUM_ITEMS * NUM_STEPS + 2
    with pytest.raises(InvalidInputError, match=f"column target, row {row}: 'many'"):
        open_series(tmp_path / "data", "csv", STREAMED)


def test_long_row_far_down_is_refused_with_its_row(frame: pl.DataFrame, tmp_path: Path) -> None:
    write_csv(frame, tmp_path / "data")
    with (tmp_path / "data").open("a") as file:
        file.write("i00899,2020-07-19,1,2\n")
    with pytest.raises(InvalidInputError, match="row 180002 has 4 cells"):
        open_series(tmp_path / "data", "csv", LENIENT)


def test_wrong_byte_far_down_is_refused_with_its_row(frame: pl.DataFrame, tmp_path: Path) -> None:
    write_csv(frame, tmp_path / "data")
    with (tmp_path / "data").open("ab") as file:
        file.write(b"\xff,2020-07-19,1\n")
    with pytest.raises(GatecastError, match=r"row 180002: byte \d+ is not UTF-8"):
        open_series(tmp_path / "data", "csv", LENIENT)


def test_file_in_another_encoding_streams(frame: pl.DataFrame, tmp_path: Path) -> None:
    text = frame.write_csv().replace("item_id", "größe").encode("utf-16")
    (tmp_path / "data").write_bytes(text)
    with open_series(tmp_path / "data", "csv", STREAMED) as stream:
        assert stream.columns.item_id == "größe"
        check_all([one for one in stream if isinstance(one, FileSeries)])


WRONG_SERIES = {
    "cell": (["b,2024-01-01,1", "b,2024-01-02,many"], "column target, row 5: 'many'"),
    "stamp": (["b,2024-01-01,1", "b,soon,1"], "column timestamp, row 5: 'soon'"),
    "two values": (["b,2024-01-01,1", "b,2024-01-01,2"], "rows 4 and 5 give different values"),
    "off the grid": (["b,2024-01-01,1", "b,2024-01-02T12:00,2"], "column timestamp, row 5"),
    "too large": (["b,2024-01-01,1e300"], "column target, row 4"),
    "ages": (["b,0001-01-01,1", "b,9999-01-01,1"], "is one of the time stamps wrong"),
}


@pytest.mark.parametrize("name", WRONG_SERIES)
def test_wrong_series_is_refused_while_the_others_go_through(name: str) -> None:
    rows, reason = WRONG_SERIES[name]
    options = SeriesOptions(mode="lenient", freq="D", limits=FileLimits(max_series_steps=1_000_000))
    good, bad, other = read_csv(
        "a,2024-01-01,1", "a,2024-01-02,2", *rows, "c,2024-01-01,3", options=options
    )
    assert isinstance(bad, RefusedSeries)
    assert bad.item_id == "b"
    assert reason in bad.reason
    assert [one.target.tolist() for one in (good, other) if isinstance(one, FileSeries)] == [
        [1, 2], [3],
    ]  # fmt: skip


def test_rows_without_a_name_are_refused_together() -> None:
    found = read_csv(",2024-01-01,1", "a,2024-01-01,1", ",2024-01-02,1")
    assert [one.item_id for one in found] == [None, "a"]
    assert isinstance(found[0], RefusedSeries)
    assert found[0].reason == "column item_id, row 2: '' must have 1 to 256 characters"


def test_series_without_a_value_is_empty() -> None:
    empty, _ = read_csv("a,2024-01-01,", "b,2024-01-01,1")
    assert isinstance(empty, FileSeries)
    assert len(empty.target) == 0


def test_strict_mode_raises_what_is_wrong_with_a_series() -> None:
    with pytest.raises(InvalidInputError, match="rows 2 and 3"):
        read_csv("a,2024-01-01,1", "a,2024-01-01,2", options=SeriesOptions(freq="D"))


def test_series_of_too_many_steps_is_raised_as_too_large() -> None:
    options = SeriesOptions(freq="D", limits=FileLimits(max_series_steps=100))
    with pytest.raises(PayloadTooLargeError, match="more than 100"):
        read_csv("a,2024-01-01,1", "a,2025-01-01,2", options=options)


def test_long_refused_rows_survive_division_into_parts(frame: pl.DataFrame, tmp_path: Path) -> None:
    mixed = frame.sort("timestamp", "item_id").with_columns(pl.col("target").cast(pl.String))
    wrong = pl.DataFrame({**mixed[-1].to_dict(as_series=False), "target": ["many"]})
    write_parquet(pl.concat([mixed, wrong.cast(mixed.schema)]), tmp_path / "data")
    options = SeriesOptions(mode="lenient", limits=FEW_IN_MEMORY)
    with open_series(tmp_path / "data", "parquet", options) as stream:
        refused = [one for one in stream if isinstance(one, RefusedSeries)]
    assert [(one.item_id, one.reason) for one in refused] == [
        ("i00899", "column target, row 180001: 'many' is not a number")
    ]


def test_daylight_saving_is_followed_in_utc() -> None:
    rows = [
        "a,2024-03-31T00:00+01:00,1",
        "a,2024-03-31T01:00+01:00,2",
        "a,2024-03-31T03:00+02:00,3",
    ]
    (series,) = read_csv(*rows, options=SeriesOptions(freq="h"))
    assert isinstance(series, FileSeries)
    assert (series.target.tolist(), str(series.start)) == ([1, 2, 3], "2024-03-30T23:00:00.000000")


def test_decimal_commas_are_known_after_many_whole_numbers(tmp_path: Path) -> None:
    whole = "".join(f"a;{step};7\n" for step in range(500_000))
    (tmp_path / "data").write_text(f"item_id;timestamp;target\n{whole}a;500000;7,5\n")
    (series,) = read(tmp_path / "data", "csv", STREAMED)
    assert (len(series.target), series.target[-1]) == (500_001, 7.5)


COVARIATES = Covariates(past=("price",), future=("promo",), static=("size",))
WITH_COVARIATES = SeriesOptions(mode="lenient", freq="D", covariates=COVARIATES)


def read_covariates(*rows: str) -> list[FileSeries | RefusedSeries]:
    text = "item_id,timestamp,target,price,promo,size\n" + "\n".join(rows)
    with open_series(text.encode(), "csv", WITH_COVARIATES) as stream:
        return list(stream)


def test_rows_after_the_last_value_are_the_future() -> None:
    (series,) = read_covariates(
        "a,2024-01-01,1,10,0,5", "a,2024-01-03,3,30,1,5", "a,2024-01-04,,,1,5", "a,2024-01-05,,,0,"
    )
    assert isinstance(series, FileSeries)
    assert series.past_covariates["price"].tolist() == pytest.approx([10, np.nan, 30], nan_ok=True)
    assert series.future_covariates["promo"].tolist() == pytest.approx(
        [0, np.nan, 1, 1, 0], nan_ok=True
    )
    assert series.static_covariates == {"size": 5}


def test_future_that_is_too_short_is_refused() -> None:
    text = "timestamp,target,promo\n2024-01-01,1,0\n2024-01-02,,1\n"
    covariates = Covariates(future=("promo",), num_ahead=2)
    with pytest.raises(InvalidInputError, match="column promo must tell 2 steps after") as error:
        read(text.encode(), "csv", SeriesOptions(freq="D", covariates=covariates))
    assert "1 are there" in str(error.value)


def test_static_covariate_that_changes_is_refused_with_its_row() -> None:
    refused, fine = read_covariates(
        "a,2024-01-01,1,,,5", "a,2024-01-02,1,,,6", "b,2024-01-01,1,,,7"
    )
    assert isinstance(refused, RefusedSeries)
    assert "column size, row 3: 6 is another value than item a has before" in refused.reason
    assert isinstance(fine, FileSeries)


def test_covariate_that_is_not_there_is_named() -> None:
    with pytest.raises(
        InvalidInputError, match="the covariates price, promo, size must be columns"
    ):
        open_series(f"{HEADER}a,2024-01-01,1".encode(), "csv", WITH_COVARIATES)


def test_arrow_with_dictionaries_and_views_is_read(tmp_path: Path) -> None:
    table = pa.table(
        {
            "item_id": pa.array(["a", "a"]).dictionary_encode(),
            "timestamp": pa.array(["2024-01-01", "2024-01-02"], pa.string_view()),
            "target": pa.array(["1", "2"], pa.large_string()),
        }
    )
    with pyarrow.ipc.new_stream(str(tmp_path / "data"), table.schema) as writer:
        writer.write_table(table)
    (series,) = read(tmp_path / "data", "arrow", SeriesOptions())
    assert (series.item_id, series.target.tolist()) == ("a", [1, 2])


@pytest.mark.parametrize("first", [0, 1, 3, 5])
def test_number_of_a_name_depends_on_the_name_alone(first: int) -> None:
    names = ["", "a", "größe", "", "\U0001f600" * 256]
    expected = [int(hash_names(pa.array([name]))[0]) for name in names[first:]]
    assert hash_names(pa.array(names)[first:]).tolist() == expected


def test_different_names_have_different_numbers() -> None:
    names = [f"{first}{second}" for first in "abcdefgh" for second in range(2000)]
    assert len(set(hash_names(pa.array(["", *names])).tolist())) == len(names) + 1


FROM, TO = dt.datetime(2024, 10, 26), dt.datetime(2024, 10, 29)
"""In between clocks in Berlin go back."""


@pytest.mark.parametrize("name", ["Parquet", "Arrow stream"])
@pytest.mark.parametrize(
    ("every", "freq", "start"),
    [("1h", "h", "2024-10-25T22:00"), ("1d", "D", "2024-10-26T00:00")],
)
def test_zone_of_a_column_is_dropped_as_the_whole_file_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, every: str, freq: str, start: str
) -> None:
    for kind in ("arrow_file", "parquet_file"):
        monkeypatch.setattr(f"app.files.{kind}.PIECE_ROWS", 3)
    stamps = pl.datetime_range(FROM, TO, every, time_zone="Europe/Berlin", eager=True)
    write, file_format = WRITERS[name]
    frame = pl.DataFrame({"item_id": "a", "timestamp": stamps, "target": np.arange(len(stamps))})
    write(frame, tmp_path / "data")
    with open_series(tmp_path / "data", file_format, SeriesOptions()) as stream:
        (series,) = stream
        assert stream.freq == freq
    assert isinstance(series, FileSeries)
    assert series.target.tolist() == list(range(len(stamps)))
    assert series.start == np.datetime64(start, "us")


def test_zone_of_a_column_with_one_offset_leaves_the_wall_time(tmp_path: Path) -> None:
    stamps = pl.datetime_range(FROM, FROM, time_zone="Europe/Berlin", eager=True)
    frame = pl.DataFrame({"item_id": "a", "timestamp": stamps, "target": 1.0})
    write_parquet(frame, tmp_path / "data")
    (series,) = read(tmp_path / "data", "parquet", SeriesOptions(freq="h"))
    assert series.start == np.datetime64("2024-10-26T00:00", "us")


def test_midnights_with_several_offsets_stay_on_their_days() -> None:
    rows = ["a,2024-03-31T00:00+01:00,1", "a,2024-04-01T00:00+02:00,2"]
    (series,) = read_csv(*rows)
    assert isinstance(series, FileSeries)
    assert (series.target.tolist(), str(series.start)) == ([1, 2], "2024-03-31T00:00:00.000000")


@pytest.mark.parametrize(("num_columns", "is_refused"), [(1, False), (40, True)])
def test_gaps_in_many_columns_are_bounded(num_columns: int, is_refused: bool) -> None:
    names = tuple(f"x{number}" for number in range(num_columns))
    options = SeriesOptions(
        mode="lenient",
        freq="D",
        covariates=Covariates(past=names),
        limits=FileLimits(max_series_steps=10_000),
    )
    ones = ",1" * num_columns
    text = f"timestamp,target,{','.join(names)}\n2020-01-01,1{ones}\n2022-01-01,2{ones}"
    with open_series(text.encode(), "csv", options) as stream:
        (series,) = stream
    assert isinstance(series, RefusedSeries) == is_refused
