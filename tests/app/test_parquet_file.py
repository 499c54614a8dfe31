"""Parquet files that are small until they are decoded."""

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from app.errors import InvalidInputError
from app.files.columns import Covariates
from app.files.parquet_file import ParquetFile
from app.files.raw import FileLimits
from app.files.series import FileSeries
from app.files.streaming import SeriesOptions, open_series
from app.files.survey import find_layout, survey_file

NUM_ROWS = 50_000
MOST_BYTES = 4 * 2**20
STAMPS = ["2024-01-01", "2024-01-02"]


def write(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), sink)
    return sink.getvalue()


def open_parquet(**columns: Any) -> ParquetFile:
    return ParquetFile(write(**columns), FileLimits())


def repeat(text: str, kind: pa.DataType) -> pa.Array:
    codes = pa.array([0] * NUM_ROWS, pa.int32())
    return pa.DictionaryArray.from_arrays(codes, pa.array([text])).cast(pa.string()).cast(kind)


def read(options: SeriesOptions, /, **columns: Any) -> FileSeries:
    with open_series(write(**columns), "parquet", options) as stream:
        (series,) = stream
    assert isinstance(series, FileSeries)
    return series


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.large_binary(),
        pa.binary_view(),
    ],
    ids=str,
)
def test_one_text_in_many_rows_stays_small(kind: pa.DataType) -> None:
    file = open_parquet(note=repeat("x" * 8000, kind))
    (piece,) = file.pieces()
    assert piece.table.num_rows == NUM_ROWS
    assert piece.table.nbytes < MOST_BYTES
    assert piece.table["note"].type == pa.dictionary(pa.int32(), pa.string())


def test_wide_cells_are_read_some_rows_at_a_time() -> None:
    cells = repeat("x" * 256, pa.string()).cast(pa.binary()).cast(pa.binary(256))
    pieces = list(open_parquet(**{f"note {n}": cells for n in range(9)}).pieces())
    assert max(piece.table.nbytes for piece in pieces) < 40 * 2**20
    assert sum(piece.table.num_rows for piece in pieces) == NUM_ROWS
    assert pieces[1].first_row == pieces[0].table.num_rows + 1


UNREAD: dict[str, pa.Array] = {
    "list<element: int8>": pa.array([[0] * 9] * 2, pa.list_(pa.int8())),
    "struct<part: int64>": pa.array([{"part": 1}] * 2),
    "map<string, int64": pa.array([[("a", 1)]] * 2, pa.map_(pa.string(), pa.int64())),
    "fixed_size_binary[300]": pa.array([b"x" * 300] * 2, pa.binary(300)),
    "extension<arrow.json>": pa.ExtensionArray.from_storage(pa.json_(), pa.array(["1"] * 2)),
}


@pytest.mark.parametrize("kind", UNREAD)
def test_cells_of_any_size_are_left_out(kind: str) -> None:
    file = open_parquet(tags=UNREAD[kind], y=[1, 2])
    assert [piece.table.column_names for piece in file.pieces()] == [["y"]]
    assert file.column_names == ["tags", "y"]


@pytest.mark.parametrize("kind", UNREAD)
def test_cells_of_any_size_are_refused_where_they_are_needed(kind: str) -> None:
    with pytest.raises(InvalidInputError) as error:
        list(open_parquet(tags=UNREAD[kind], y=[1, 2]).pieces(["y", "tags"]))
    assert f"column tags must hold numbers, texts or times, not {kind}" in str(error.value)


@pytest.mark.parametrize("name", ["item_id", "timestamp", "target"])
def test_list_with_the_name_of_a_role_is_refused(name: str) -> None:
    columns = {"item_id": ["a", "a"], "timestamp": STAMPS, "target": [1, 2]} | {name: [[1], [2]]}
    with pytest.raises(InvalidInputError, match=f"column {name} must hold .*, not list"):
        read(SeriesOptions(), **columns)


def test_list_that_is_a_covariate_is_refused() -> None:
    options = SeriesOptions(freq="D", covariates=Covariates(past=("tags",)))
    with pytest.raises(InvalidInputError, match=r"column tags must hold .*, not list"):
        read(options, timestamp=STAMPS, target=[1, 2], tags=[[1], [2]])


def test_file_with_lists_alone_has_no_numbers() -> None:
    with pytest.raises(InvalidInputError, match=r"no column holds the numbers .* are tags"):
        read(SeriesOptions(), tags=[[1], [2]])


def test_list_is_no_guess() -> None:
    series = read(SeriesOptions(freq="D"), day=STAMPS, sold=[1, 2], tags=[[1], [2]])
    assert (series.item_id, series.target.tolist()) == (None, [1, 2])


def test_column_named_like_a_part_of_a_list_brings_no_list() -> None:
    columns = {"tags": [[1], [2]], "tags.list": [3, 4], "y": [5, 6]}
    file = open_parquet(**columns)
    assert [piece.table.column_names for piece in file.pieces()] == [["y"]]
    with pytest.raises(InvalidInputError, match=r"column tags\.list .* parts of another column"):
        list(file.pieces(["tags.list"]))


def test_points_in_names_are_read() -> None:
    (piece,) = open_parquet(**{"y": [1, 2], "y.net": [3, 4]}).pieces(["y"])
    assert piece.table.to_pydict() == {"y": [1, 2]}


def test_bytes_are_read_as_text() -> None:
    columns = {"item_id": [b"a", b"a"], "timestamp": [b"2024-01-01", b"2024-01-02"]}
    series = read(SeriesOptions(freq="D"), **columns, target=[1, 2])
    assert (series.item_id, series.target.tolist()) == ("a", [1, 2])


def test_bytes_that_are_no_text_are_left_out_unless_they_are_needed() -> None:
    columns = {"timestamp": STAMPS, "target": [1, 2], "photo": [b"\xff\xd8", b"a"]}
    assert read(SeriesOptions(freq="D"), **columns).item_id is None
    options = SeriesOptions(freq="D", covariates=Covariates(past=("photo",)))
    with pytest.raises(InvalidInputError, match="column photo is not UTF-8"):
        read(options, **columns)


@pytest.mark.parametrize(("rows_in_memory", "is_kept"), [(1200, True), (1199, False)])
def test_rows_with_covariates_take_more_room(rows_in_memory: int, *, is_kept: bool) -> None:
    columns = {"target": [1.0] * 400, "price": [2.0] * 400, "promo": [0.0] * 400}
    covariates, limits = (
        Covariates(past=("price", "promo")),
        FileLimits(rows_in_memory=rows_in_memory),
    )
    file = ParquetFile(write(**columns), limits)
    layout = find_layout(file, SeriesOptions().roles, covariates)
    survey = survey_file(file, layout, None, limits=limits, keeps_complaints=False)
    assert (survey.rows is not None) == is_kept


def test_rows_with_covariates_are_divided_by_item() -> None:
    names, steps = ["a", "b"] * 400, [step // 2 for step in range(800)]
    options = SeriesOptions(
        covariates=Covariates(past=("price",)), limits=FileLimits(rows_in_memory=1000)
    )
    body = write(item_id=names, timestamp=steps, target=steps, price=steps)
    with open_series(body, "parquet", options) as stream:
        found = [series for series in stream if isinstance(series, FileSeries)]
    assert sorted(str(series.item_id) for series in found) == ["a", "b"]
    for series in found:
        assert series.target.tolist() == series.past_covariates["price"].tolist() == steps[::2]
