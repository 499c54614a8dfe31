"""CSV files with unusual first lines and ends of lines."""

import pytest

from app.errors import InvalidInputError, MalformedBodyError
from app.files.csv_file import CsvFile
from app.files.series import FileSeries
from app.files.streaming import SeriesOptions, open_series

NAMES = ["item_id", "timestamp", "target"]


def read(text: str) -> list[list[float]]:
    with open_series(text.encode(), "csv", SeriesOptions()) as stream:
        return [one.target.tolist() for one in stream if isinstance(one, FileSeries)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\r\r\n"])
@pytest.mark.parametrize("blank", [0, 2])
def test_any_end_of_a_line_is_read(end: str, blank: int) -> None:
    rows = ["item_id,timestamp,target", "a,2024-01-01,1", "a,2024-01-02,2", ""]
    assert read(end * blank + end.join(rows)) == [[1, 2]]


def test_long_file_with_carriage_returns_is_read() -> None:
    rows = "".join(f"a,{step},1\r" for step in range(300_000))
    assert len(read(f"item_id,timestamp,target\r{rows}")[0]) == 300_000


def test_carriage_return_in_the_header_ends_it() -> None:
    with pytest.raises(InvalidInputError, match="3 cells where there are 2 columns"):
        read("item_id,time\rstamp,target\na,2024-01-01,1\n")


@pytest.mark.parametrize("length", [131_073, 2**21])
def test_long_first_field_is_refused(length: int) -> None:
    with pytest.raises(MalformedBodyError, match="row 1 is too long"):
        CsvFile(b"a" * length + b",b\n1,2\n", None)


def test_names_come_from_a_header_that_ends_with_a_carriage_return() -> None:
    assert CsvFile(b"item_id;timestamp;target\ra;1;2\r", None).column_names == NAMES
