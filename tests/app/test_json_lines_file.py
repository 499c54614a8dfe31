"""JSON Lines keep their texts, also those that look like dates."""

import pyarrow as pa
import pytest

from app.files.json_lines_file import JsonLinesFile
from app.files.series import FileSeries
from app.files.streaming import SeriesOptions, open_series

Row = tuple[str, str, float]
FIRST_LINE = b'{"id": "2024-01-01", "x": 1}\n'


def read(*rows: Row, file_format: str = "jsonl") -> tuple[str | None, list[FileSeries]]:
    if file_format == "csv":
        lines = ["item_id,timestamp,target", *(f"{name},{time},{y}" for name, time, y in rows)]
    else:
        lines = [
            f'{{"item_id": "{name}", "timestamp": "{time}", "target": {y}}}'
            for name, time, y in rows
        ]
    source = "\n".join(lines).encode()
    with open_series(source, "csv" if file_format == "csv" else "jsonl", SeriesOptions()) as stream:
        return stream.freq, [one for one in stream if isinstance(one, FileSeries)]


STAMPS = {
    "one offset": (["2024-05-01T00:00:00+02:00", "2024-05-02T00:00:00+02:00"], "D", "2024-05-01"),
    "midnights of two offsets": (
        ["2024-03-31T00:00:00+01:00", "2024-04-01T00:00:00+02:00"], "D", "2024-03-31",
    ),
    "hours of two offsets": (
        ["2024-03-31T01:00:00+01:00", "2024-03-31T03:00:00+02:00"], "h", "2024-03-31",
    ),
    "no offset": (["2024-05-01", "2024-05-02"], "D", "2024-05-01"),
}  # fmt: skip


@pytest.mark.parametrize("file_format", ["csv", "jsonl"])
@pytest.mark.parametrize("name", STAMPS)
def test_offsets_mean_the_same_in_every_format(name: str, file_format: str) -> None:
    (first, second), freq, start = STAMPS[name]
    found, (series,) = read(("a", first, 1), ("a", second, 2), file_format=file_format)
    assert (found, str(series.start), series.target.tolist()) == (
        freq, f"{start}T00:00:00.000000", [1, 2],
    )  # fmt: skip


def test_name_that_looks_like_a_date_stays_as_it_is() -> None:
    _, (series,) = read(("2024-01-01", "2024-05-01", 1), ("2024-01-01", "2024-05-02", 2))
    assert series.item_id == "2024-01-01"


def test_columns_keep_their_order_and_kinds() -> None:
    line = (
        b'{"y": 1, "ds": "2024-01-01", "x": ["2024-01-01"], "z": {"a": "2024-01-01"}, "w": null}\n'
    )
    (piece,) = JsonLinesFile(line * 2).pieces()
    kinds = dict(zip(piece.table.column_names, piece.table.schema.types, strict=True))
    assert list(kinds) == ["y", "ds", "x", "z", "w"]
    assert (kinds["y"], kinds["ds"], kinds["w"]) == (pa.int64(), pa.string(), pa.null())


def test_pieces_agree_on_what_is_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.files.json_lines_file.PIECE_BYTES", len(FIRST_LINE))
    file = JsonLinesFile(FIRST_LINE + b'{"id": "no date", "x": 1}\n')
    pieces = list(file.pieces())
    assert [piece.table["id"].type for piece in pieces] == [pa.string()] * 2
    assert [piece.table["id"].to_pylist() for piece in pieces] == [["2024-01-01"], ["no date"]]
