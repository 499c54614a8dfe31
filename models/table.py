"""Reading a long-format file: which column is which, and cells that are what they should be.

One row per item and time stamp: ``item_id, timestamp, target`` (or ``unique_id, ds, y``), and
covariate columns. Every complaint names the column and the row.
"""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from app.errors import InvalidInputError

_NAMES = {"item_id": "unique_id", "timestamp": "ds", "target": "y"}
_MISSING = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"]
_LARGEST = 3.4e38


@dataclass(frozen=True, slots=True)
class Table:
    """A checked file.

    Attributes:
        frame: ``row`` (number in the file), ``item_id``, ``timestamp`` (``Datetime`` or ``Int64``),
            ``target`` and covariates (``Float64``, null where missing), categories (``String``).
        ignored: Columns of the file that are not used.
        has_stamps: Whether time is a stamp; otherwise it is a plain integer step.
    """

    frame: pl.DataFrame
    ignored: tuple[str, ...]
    has_stamps: bool


def read_table(
    path: Path, covariates: tuple[str, ...] = (), categories: tuple[str, ...] = ()
) -> Table:
    """Read a CSV file (also compressed) or a Parquet file.

    Args:
        path: The file.
        covariates: Names of the columns to read as numbers beside item, time and target.
        categories: Names of the columns to read as texts.

    Raises:
        InvalidInputError: The file can not be read, a column is missing, or a cell is wrong.
    """
    raw, first_row = read_file(path)
    columns = {name: _find_column(raw, name, other) for name, other in _NAMES.items()}
    for name in (*covariates, *categories):
        if name not in raw.columns:
            raise InvalidInputError(f"covariate column {name} is not in {path.name}")
    if raw.is_empty():
        raise InvalidInputError(f"{path.name} has no rows")
    rows = pl.Series("row", np.arange(first_row, first_row + raw.height))
    stamps = read_time(raw[columns["timestamp"]], first_row)
    frame = pl.DataFrame(
        [
            rows,
            read_names(raw[columns["item_id"]], first_row).alias("item_id"),
            stamps.alias("timestamp"),
            read_numbers(raw[columns["target"]], first_row).alias("target"),
            *(read_numbers(raw[name], first_row) for name in covariates),
            *(raw[name].cast(pl.String) for name in categories),
        ]
    )
    used = {*columns.values(), *covariates, *categories}
    ignored = tuple(name for name in raw.columns if name not in used)
    return Table(frame, ignored, has_stamps=stamps.dtype != pl.Int64)


def read_file(path: Path) -> tuple[pl.DataFrame, int]:
    """Return the cells and the number of the first row; a CSV file has its header in row 1."""
    is_parquet = path.suffix.lower() in {".parquet", ".pq"}
    try:
        if is_parquet:
            return pl.read_parquet(path), 1
        return pl.read_csv(path, infer_schema=False, null_values=_MISSING), 2
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInputError(f"{path} can not be read: {reason}") from error


def _find_column(raw: pl.DataFrame, name: str, other: str) -> str:
    found = [column for column in (name, other) if column in raw.columns]
    if len(found) == 1:
        return found[0]
    problem = "both are there" if found else f"the columns are {', '.join(raw.columns)}"
    raise InvalidInputError(f"one column must be named {name} or {other}; {problem}")


def read_names(column: pl.Series, first_row: int) -> pl.Series:
    """Return ``column`` as texts, none of them missing.

    Raises:
        InvalidInputError: One is missing; the message names column and row.
    """
    names = column.cast(pl.String)
    refuse(names.is_null(), column, first_row, "is empty")
    return names


def read_numbers(column: pl.Series, first_row: int) -> pl.Series:
    """Return ``column`` as ``Float64``, null where missing.

    Raises:
        InvalidInputError: A cell is no number; the message names column and row.
    """
    if column.dtype == pl.String:
        column = column.str.strip_chars()
    elif not (column.dtype.is_numeric() or column.dtype in {pl.Boolean, pl.Null}):
        raise InvalidInputError(f"column {column.name} must hold numbers, not {column.dtype}")
    numbers = column.cast(pl.Float64, strict=False)
    refuse(numbers.is_null() & column.is_not_null(), column, first_row, "is not a number")
    numbers = numbers.fill_nan(None)
    refuse(numbers.abs() > _LARGEST, column, first_row, f"is beyond {_LARGEST:.1e}")
    return numbers


def read_time(column: pl.Series, first_row: int) -> pl.Series:
    """Return integer steps as ``Int64`` and stamps as ``Datetime`` in microseconds.

    Raises:
        InvalidInputError: A cell is missing or neither; the message names column and row.
    """
    refuse(column.is_null(), column, first_row, "is empty")
    if column.dtype.is_integer():
        return column.cast(pl.Int64)
    if column.dtype == pl.String:
        steps = column.cast(pl.Int64, strict=False)
        return _parse_stamps(column, first_row) if steps.null_count() else steps
    if column.dtype == pl.Date or isinstance(column.dtype, pl.Datetime):
        return _to_wall_time(column)
    raise InvalidInputError(f"column {column.name} must hold dates, times or integer steps")


def _to_wall_time(column: pl.Series) -> pl.Series:
    stamps = column.cast(pl.Datetime("us"))
    if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone:
        stamps = column.dt.replace_time_zone(None).cast(pl.Datetime("us"))
    return stamps


def _parse_stamps(column: pl.Series, first_row: int) -> pl.Series:
    """Parse ISO 8601; with several offsets from UTC, in UTC, otherwise in wall time."""
    texts = column.unique(maintain_order=True)
    parsed = {text: _parse_stamp(text.strip()) for text in texts}
    wrong = [text for text, stamp in parsed.items() if stamp is None]
    refuse(column.is_in(wrong), column, first_row, "is no ISO 8601 date or time")
    stamps = {text: stamp for text, stamp in parsed.items() if stamp is not None}
    offsets = {stamp.utcoffset() for stamp in stamps.values()}
    if None in offsets and len(offsets) > 1:
        raise InvalidInputError(f"column {column.name}: some stamps have a time zone, others none")
    if len(offsets) > 1:
        stamps = {text: stamp.astimezone(dt.UTC) for text, stamp in stamps.items()}
    wall = {text: stamp.replace(tzinfo=None) for text, stamp in stamps.items()}
    return column.replace_strict(wall, return_dtype=pl.Datetime("us"))


def _parse_stamp(text: str) -> dt.datetime | None:
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        return None


def refuse(is_wrong: pl.Series, column: pl.Series, first_row: int, problem: str) -> None:
    """Complain about the first row where ``is_wrong`` holds.

    Raises:
        InvalidInputError: There is one; the message names column and row.
    """
    where = is_wrong.fill_null(value=False).arg_true()
    if len(where):
        cell, row = column[where[0]], first_row + where[0]
        more = f" (and {len(where) - 1} more rows)" if len(where) > 1 else ""
        raise InvalidInputError(f"column {column.name}, row {row}: {cell!r} {problem}{more}")
