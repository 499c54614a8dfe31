"""Cells that no column may hold are refused by column and row, in every unit and kind."""

import io
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest

from app.errors import InvalidInputError
from app.files.series import FileSeries, RefusedSeries
from app.files.streaming import SeriesOptions, open_series

LENIENT = SeriesOptions(mode="lenient", freq="D")
DAYS = ["2024-01-01", "2024-01-02"]
OUTSIDE = "is outside the years 1 to 9999"


def arrow(**columns: Any) -> bytes:
    sink, table = io.BytesIO(), pa.table(columns)
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def read(source: bytes, options: SeriesOptions = LENIENT) -> list[FileSeries | RefusedSeries]:
    with open_series(source, "arrow", options) as stream:
        return list(stream)


def stamps(kind: pa.DataType, *ticks: int) -> pa.Array:
    storage = pa.int32() if pa.types.is_date32(kind) else pa.int64()
    return pa.array(ticks, storage).view(kind)


LAST, FIRST = 253_402_300_799, -62_135_596_800
FAR = {
    "milliseconds as seconds": stamps(pa.timestamp("s"), 1_704_067_200_000),
    "wraps to 1970 in microseconds": stamps(pa.timestamp("s"), 2**60),
    "after the last year": stamps(pa.timestamp("s"), LAST + 1),
    "before the first year": stamps(pa.timestamp("ms"), FIRST * 1000 - 1),
    "microseconds": stamps(pa.timestamp("us"), 2**62),
    "with a zone": stamps(pa.timestamp("s", "Europe/Berlin"), 1_704_067_200_000),
    "wall time after the last year": stamps(pa.timestamp("s", "Asia/Tokyo"), LAST),
    "days": stamps(pa.date32(), 2**31 - 1),
    "days in milliseconds": stamps(pa.date64(), 2**32 * 86_400_000),
}


@pytest.mark.parametrize("name", FAR)
def test_stamp_of_no_year_is_refused_with_its_row(name: str) -> None:
    times = pa.concat_arrays([stamps(FAR[name].type, 0), FAR[name]])
    content = arrow(item_id=["a", "b"], timestamp=times, target=[1, 2])
    with pytest.raises(InvalidInputError, match=f"column timestamp, row 2: .* {OUTSIDE}"):
        read(content, SeriesOptions(freq="D"))


@pytest.mark.parametrize("name", FAR)
def test_series_with_a_stamp_of_no_year_is_refused_while_others_go_through(name: str) -> None:
    times = pa.concat_arrays([stamps(FAR[name].type, 0), FAR[name]])
    content = arrow(item_id=["a", "b"], timestamp=times, target=[1, 2])
    sound, refused = read(content)
    assert isinstance(sound, FileSeries)
    assert isinstance(refused, RefusedSeries)
    assert OUTSIDE in refused.reason


def test_wall_time_before_the_first_year_is_refused() -> None:
    times = stamps(pa.timestamp("s", "America/New_York"), FIRST)
    with pytest.raises(InvalidInputError, match=f"row 1: '0000-12-31 .* {OUTSIDE}"):
        read(arrow(item_id=["a"], timestamp=times, target=[1]), SeriesOptions(freq="D"))


def test_first_and_last_second_are_stamps() -> None:
    times = stamps(pa.timestamp("s"), FIRST, LAST)
    first, last = read(arrow(item_id=["a", "b"], timestamp=times, target=[1, 2]))
    assert isinstance(first, FileSeries)
    assert isinstance(last, FileSeries)
    assert [str(first.start), str(last.start)] == [
        "0001-01-01T00:00:00.000000", "9999-12-31T23:59:59.000000",
    ]  # fmt: skip


def test_text_that_is_of_no_year_in_utc_is_refused() -> None:
    times = ["0001-01-01T00:00+02:00", "2024-01-01T01:00+01:00"]
    refused, sound = read(arrow(item_id=["a", "b"], timestamp=times, target=[1, 2]))
    assert isinstance(sound, FileSeries)
    assert isinstance(refused, RefusedSeries)
    assert OUTSIDE in refused.reason


NOT_UTF8 = b"\xff" * 16
UNREADABLE = {
    "bytes of one length": ("item_id", pa.array([NOT_UTF8] * 2, pa.binary(16)), "can not be read"),
    "bytes": ("item_id", pa.array([NOT_UTF8] * 2, pa.binary()), "can not be read"),
    "dictionary of bytes": ("item_id", pa.array([NOT_UTF8] * 2).dictionary_encode(), "is not UTF"),
    "runs": ("item_id", pa.RunEndEncodedArray.from_arrays([2], ["a"]), "must hold numbers"),
    "intervals": ("item_id", pa.array([pa.MonthDayNano([1, 2, 3])] * 2), "can not be read"),
    "zone nobody knows": (
        "timestamp", stamps(pa.timestamp("s", "Nowhere/City"), 0, 86_400), "can not be read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNREADABLE)
def test_column_that_can_not_be_read_is_named(name: str) -> None:
    role, cells, problem = UNREADABLE[name]
    content = arrow(**{"item_id": ["a"] * 2, "timestamp": DAYS, "target": [1, 2], role: cells})
    with pytest.raises(InvalidInputError, match=f"column {role} {problem}"):
        read(content, SeriesOptions())


def test_column_that_can_not_be_read_is_named_where_roles_are_looked_for() -> None:
    names = pa.array([NOT_UTF8] * 2, pa.binary()).view(pa.string())
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pa.table({"what": names, "how many": [1, 2]}), sink)
    with (
        pytest.raises(InvalidInputError, match="column what can not be read: "),
        open_series(sink.getvalue(), "parquet", SeriesOptions()),
    ):
        pass


def test_names_of_a_parquet_file_that_are_not_utf8_are_refused() -> None:
    names = pa.array([NOT_UTF8] * 2, pa.binary()).view(pa.string())
    sink = io.BytesIO()
    table = pa.table({"item_id": names, "timestamp": DAYS, "target": [1, 2]})
    pyarrow.parquet.write_table(table, sink)
    with (
        pytest.raises(InvalidInputError, match="column item_id "),
        open_series(sink.getvalue(), "parquet", SeriesOptions()),
    ):
        pass


STEPS = {
    "beyond int64": pa.array([1, 2**63 + 1], pa.uint64()),
    "distance beyond int64": pa.array([1, 2**63 - 1], pa.int64()),
    "far below": pa.array([1, -(2**63)], pa.int64()),
}


@pytest.mark.parametrize("name", STEPS)
def test_step_that_is_too_large_is_refused_with_its_row(name: str) -> None:
    content = arrow(item_id=["a", "b"], timestamp=STEPS[name], target=[1, 2])
    sound, refused = read(content, SeriesOptions(mode="lenient"))
    assert isinstance(sound, FileSeries)
    assert isinstance(refused, RefusedSeries)
    assert "column timestamp, row 2" in refused.reason
    assert "is beyond 4611686018427387903" in refused.reason
