"""CSV files as the client's command reads them, without a service."""

from pathlib import Path

import pytest

from gatecast_client.__main__ import read_csv
from gatecast_client.tables import Columns


def write(directory: Path, *rows: str) -> Path:
    path = directory / "data.csv"
    path.write_text("\n".join(["item_id,timestamp,target", *rows]))
    return path


def test_words_for_missing_numbers_are_known(tmp_path: Path) -> None:
    words = ["", "NA", "N/A", "NaN", "null", "None"]
    table = read_csv(write(tmp_path, *(f"a,2024-01-01,{word}" for word in words)), Columns())
    assert table["target"].to_list() == [None] * len(words)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("a,2024-01-02", "row 3 has another number of cells"),
        ("a,2024-01-02,1,5", "row 3 has another number of cells"),
        ("a,2024-01-02,many", "row 3: 'many' is not a number"),
    ],
)
def test_wrong_row_is_named(tmp_path: Path, row: str, problem: str) -> None:
    path = write(tmp_path, "a,2024-01-01,1", row)
    with pytest.raises(ValueError, match=problem):
        read_csv(path, Columns())
