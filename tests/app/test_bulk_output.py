"""Every format holds the same forecasts, the same bytes each time, and appears whole or not."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from app.bulk.output import check_suffix, remove, write_forecasts
from app.bulk.tables import ForecastSeries, decode_rows, encode_rows, table_schema
from app.errors import BulkRunError, InvalidInputError

LEVELS = (0.1, 0.5)
STAMPS = np.array(["2024-01-31", "2024-02-29"], "M8[us]")


def part(names: list[str | None], stamps: np.ndarray | None = STAMPS) -> bytes:
    quantiles = np.array([[1.5, 2], [3, 4.25]], np.float32)
    series = [ForecastSeries(name, stamps, quantiles) for name in names]
    return encode_rows(series, LEVELS, has_stamps=stamps is not None)


def write(path: Path, parts: list[bytes], *, has_times: bool = False) -> bytes:
    schema = decode_rows(parts[0]).schema
    write_forecasts(path, parts, schema, horizon=2, has_times=has_times)
    return path.read_bytes()


PARTS = [part(["A", "B"]), part([]), part(["C"])]
ROWS = [
    {"item_id": name, "timestamp": stamp.item(), "0.1": low, "0.5": middle}
    for name in "ABC"
    for stamp, low, middle in zip(STAMPS, (1.5, 2.0), (3.0, 4.25), strict=True)
]


def test_parquet_holds_all_rows(tmp_path: Path) -> None:
    write(tmp_path / "f.parquet", PARTS)
    assert pyarrow.parquet.read_table(tmp_path / "f.parquet").to_pylist() == ROWS


def test_arrow_file_holds_all_rows(tmp_path: Path) -> None:
    write(tmp_path / "f.arrow", PARTS)
    with pa.ipc.open_file(tmp_path / "f.arrow") as reader:
        assert reader.read_all().to_pylist() == ROWS


def test_arrow_stream_holds_all_rows(tmp_path: Path) -> None:
    write(tmp_path / "f.arrows", PARTS)
    with pa.ipc.open_stream((tmp_path / "f.arrows").read_bytes()) as reader:
        assert reader.read_all().to_pylist() == ROWS


def test_csv_holds_all_rows(tmp_path: Path) -> None:
    text = write(tmp_path / "f.csv", PARTS).decode()
    header, *rows = csv.reader(text.splitlines())
    assert header == ["item_id", "timestamp", "0.1", "0.5"]
    assert rows == [
        [row["item_id"], f"{row['timestamp']:%Y-%m-%d}", f"{row['0.1']:g}", f"{row['0.5']:g}"]
        for row in ROWS
    ]


def test_json_lines_hold_one_object_per_series(tmp_path: Path) -> None:
    lines = write(tmp_path / "f.jsonl", PARTS).splitlines()
    assert [json.loads(line)["item_id"] for line in lines] == ["A", "B", "C"]
    assert json.loads(lines[0]) == {
        "item_id": "A",
        "timestamps": ["2024-01-31", "2024-02-29"],
        "quantiles": {"0.1": [1.5, 2.0], "0.5": [3.0, 4.25]},
    }


def test_texts_have_times_where_they_need_them(tmp_path: Path) -> None:
    stamps = np.array(["2024-01-31T23", "2024-02-01T00"], "M8[us]")
    text = write(tmp_path / "f.csv", [part(["A"], stamps)], has_times=True).decode()
    assert [line.split(",")[1].strip('"') for line in text.splitlines()[1:]] == [
        "2024-01-31T23:00:00",
        "2024-02-01T00:00:00",
    ]


HALF_SECONDS = np.array(["2024-01-01T00:00:00.5", "2024-01-01T01:00:00.5"], "M8[us]")


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_texts_have_fractions_of_seconds_where_they_need_them(tmp_path: Path, suffix: str) -> None:
    whole = np.array(["2024-01-01T00", "2024-01-01T01"], "M8[us]")
    parts = [part(["A"], HALF_SECONDS), part(["B"], whole)]
    text = write(tmp_path / f"f.{suffix}", parts, has_times=True).decode()
    assert re.findall(r"2024-[^\"]*", text) == [
        "2024-01-01T00:00:00.500000",
        "2024-01-01T01:00:00.500000",
        "2024-01-01T00:00:00",
        "2024-01-01T01:00:00",
    ]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_steps_without_stamps_are_counted(tmp_path: Path, suffix: str) -> None:
    text = write(tmp_path / f"f.{suffix}", [part([None], None)]).decode()
    if suffix == "csv":
        assert [line.split(",")[:2] for line in text.splitlines()[1:]] == [["", "1"], ["", "2"]]
    else:
        assert set(json.loads(text)) == {"quantiles"}


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "arrows", "csv", "jsonl"])
def test_same_parts_give_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    assert write(tmp_path / f"a.{suffix}", PARTS) == write(tmp_path / f"b.{suffix}", PARTS)


def test_small_chunks_share_a_row_group(tmp_path: Path) -> None:
    write(tmp_path / "f.parquet", PARTS)
    assert pyarrow.parquet.ParquetFile(tmp_path / "f.parquet").metadata.num_row_groups == 1


def broken_parts() -> Iterator[bytes]:
    yield PARTS[0]
    raise ZeroDivisionError


def test_file_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text("old")
    schema = decode_rows(PARTS[0]).schema
    with pytest.raises(ZeroDivisionError):
        write_forecasts(path, broken_parts(), schema, horizon=2, has_times=False)
    assert path.read_text() == "old"


def test_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BulkRunError, match=r"can not write .*: No such file or directory"):
        write(tmp_path / "none" / "f.csv", PARTS)


def test_file_that_can_not_be_removed_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "errors.jsonl").mkdir()
    with pytest.raises(BulkRunError, match=r"can not remove .*errors\.jsonl"):
        remove(tmp_path / "errors.jsonl")


def test_unknown_suffix_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"f\.xlsx must end in one of \.parquet"):
        check_suffix(Path("f.xlsx"))


def test_schema_names_quantiles_by_their_levels() -> None:
    assert table_schema(LEVELS, has_stamps=False).names == ["item_id", "timestamp", "0.1", "0.5"]
