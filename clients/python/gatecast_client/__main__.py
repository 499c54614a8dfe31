"""Forecast a CSV file: ``python -m gatecast_client monthly sales.csv --output forecast.csv``.

The API key, if the service wants one, is read from the variable ``FORECAST_API_KEY``.
"""

import argparse
import csv
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gatecast_client.client import Client
from gatecast_client.errors import ClientError
from gatecast_client.tables import Columns

_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none"})
_FIRST_ROW = 2
"""The names are in row 1; blank lines do not count."""


class CsvTable:
    """Columns by name; all that ``TableTask`` asks of a table.

    Args:
        columns: A list for each name, all of one length.
    """

    def __init__(self, columns: Mapping[str, Sequence[Any]]) -> None:
        self.columns = columns

    def __getitem__(self, name: str) -> "_Column":
        return _Column(self.columns[name])


class _Column:
    def __init__(self, values: Sequence[Any]) -> None:
        self._values = values

    def to_list(self) -> list[Any]:
        """Return the values."""
        return list(self._values)


def read_csv(path: Path, columns: Columns) -> CsvTable:
    """Read a CSV file in long format with a row of names; an empty cell is a missing value.

    Raises:
        ValueError: A column is missing, a row has fewer or more cells, or a cell of a number holds
            none.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets may write a mark
        rows = list(csv.DictReader(file))
    names = [columns.item_id, columns.timestamp, columns.target]
    for name in names:
        if not rows or name not in rows[0]:
            raise ValueError(f"{path}: there is no column {name}, or no row")
    for number, row in enumerate(rows, _FIRST_ROW):
        if None in row or None in row.values():
            raise ValueError(f"{path}: row {number} has another number of cells than the first one")
    table: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in names}
    cells = enumerate(table[columns.target], _FIRST_ROW)
    table[columns.target] = [_number(cell, f"{path}: row {number}") for number, cell in cells]
    return CsvTable(table)


def write_csv(path: Path, table: CsvTable) -> None:
    """Write a table with a row of names; the file appears whole, or stays as it was."""
    draft = path.with_name(f"{path.name}.part")
    with draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table.columns)
        writer.writerows(zip(*table.columns.values(), strict=True))
    draft.replace(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read, forecast, write; an expected error is one line and status 1."""
    given = _parse(arguments)
    columns = Columns(item_id=given.item_id, timestamp=given.timestamp, target=given.target)
    levels = [float(level) for level in given.quantile_levels.split(",")]
    try:
        with Client(given.url, api_key=os.environ.get("FORECAST_API_KEY")) as client:
            found = client.forecast_table(
                given.model_name,
                read_csv(given.table, columns),
                columns=columns,
                horizon=given.horizon,
                quantile_levels=levels,
            )
        write_csv(given.output, found)
    except (ClientError, OSError, ValueError) as error:
        sys.exit(f"gatecast_client: {error}")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = Columns()
    parser = argparse.ArgumentParser(prog="python -m gatecast_client", description=__doc__)
    parser.add_argument("model_name")
    parser.add_argument("table", type=Path, help="CSV file in long format")
    parser.add_argument("--output", type=Path, required=True, help="CSV file to write")
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="address of the service")
    parser.add_argument("--horizon", type=int, help="steps ahead; default: the model's")
    parser.add_argument("--quantile-levels", default="0.1,0.5,0.9")
    for name in ("item_id", "timestamp", "target"):
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, default=getattr(names, name), help="name of that column")
    return parser.parse_args(arguments)


def _number(cell: str, place: str) -> float | None:
    if cell.strip().lower() in _MISSING:
        return None
    try:
        return float(cell)
    except ValueError:
        raise ValueError(f"{place}: {cell!r} is not a number") from None


if __name__ == "__main__":
    main()
