"""Reading a long-format file: which column is which, and cells that are what they should be.

One row per item and time stamp: ``item_id, timestamp, target`` (or ``unique_id, ds, y``), and
covariate columns. Every complaint names the column and the row.
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from app.errors import InvalidInputError

_NAMES = {"item_id": "unique_id", "timestamp": "ds", "target": "y"}
_MISSING = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"]
_LARGEST = 3.4e38


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns of a file are called that are used.

    Attributes:
        covariates: Those to read as numbers.
        categories: Those to read as texts.
    """

    item_id: str
    timestamp: str
    target: str
    covariates: tuple[str, ...]
    categories: tuple[str, ...]

    def list_used(self) -> list[str]:
        """Return all of them, each once."""
        names = (self.item_id, self.timestamp, self.target, *self.covariates, *self.categories)
        return list(dict.fromkeys(names))

    def list_ignored(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return those of ``names`` that are not used."""
        used = set(self.list_used())
        return tuple(name for name in names if name not in used)


class Table:
    """A checked file in memory.

    Attributes:
        frame: ``row`` (number in the file), ``item_id``, ``timestamp`` (``Datetime`` or ``Int64``),
            ``target`` and covariates (``Float64``, null where missing), categories (``String``).
        num_rows: Rows of the file.
        ignored: Columns of the file that are not used.
        has_stamps: Whether time is a stamp; otherwise it is a plain integer step.
    """

    def __init__(self, frame: pl.DataFrame, ignored: tuple[str, ...]) -> None:
        self.frame = frame
        self.num_rows = frame.height
        self.ignored = ignored
        self.has_stamps = frame["timestamp"].dtype != pl.Int64

    def parts(self) -> Iterator[pl.DataFrame]:
        """Yield all rows."""
        yield self.frame

    def stamps(self) -> Iterator[pl.DataFrame]:
        """Yield ``row``, ``item_id`` and ``timestamp`` of all rows."""
        yield self.frame.select("row", "item_id", "timestamp")

    def texts(self, name: str, most: int) -> set[str]:  # noqa: ARG002 - as in ParquetStream
        """Return the different texts of a column."""
        return set(self.frame[name].drop_nulls().unique())


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
    columns = find_columns(raw.columns, path.name, covariates, categories)
    if raw.is_empty():
        raise InvalidInputError(f"{path.name} has no rows")
    return Table(check_rows(raw, columns, first_row), columns.list_ignored(raw.columns))


def is_parquet(path: Path) -> bool:
    """Return whether a file is to be read as Parquet, by its name."""
    return path.suffix.lower() in {".parquet", ".pq"}


def find_columns(
    names: Sequence[str], file: str, covariates: tuple[str, ...], categories: tuple[str, ...]
) -> Columns:
    """Find out which column is which.

    Raises:
        InvalidInputError: One is missing, or there twice.
    """
    found = {name: _find_column(names, name, other) for name, other in _NAMES.items()}
    for name in (*covariates, *categories):
        if name not in names:
            raise InvalidInputError(f"covariate column {name} is not in {file}")
    return Columns(**found, covariates=covariates, categories=categories)


def check_stamps(raw: pl.DataFrame, columns: Columns, first_row: int) -> pl.DataFrame:
    """Return item and time of the rows of ``raw``, the first of which has that number.

    Returns:
        ``row``, ``item_id`` and ``timestamp``, as in ``Table.frame``.

    Raises:
        InvalidInputError: A cell is wrong.
    """
    return pl.DataFrame(
        [
            pl.Series("row", np.arange(first_row, first_row + raw.height)),
            read_names(raw[columns.item_id], first_row).alias("item_id"),
            read_time(raw[columns.timestamp], first_row).alias("timestamp"),
        ]
    )


def check_rows(raw: pl.DataFrame, columns: Columns, first_row: int) -> pl.DataFrame:
    """Return all that is used of the rows of ``raw``, likewise.

    Raises:
        InvalidInputError: A cell is wrong.
    """
    return check_stamps(raw, columns, first_row).with_columns(
        read_numbers(raw[columns.target], first_row).alias("target"),
        *(read_numbers(raw[name], first_row) for name in columns.covariates),
        *(raw[name].cast(pl.String) for name in columns.categories),
    )


def read_file(path: Path) -> tuple[pl.DataFrame, int]:
    """Return the cells and the number of the first row; a CSV file has its header in row 1."""
    try:
        if is_parquet(path):
            return pl.read_parquet(path), 1
        return pl.read_csv(path, infer_schema=False, null_values=_MISSING), 2
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInputError(f"{path} can not be read: {reason}") from error


def _find_column(names: Sequence[str], name: str, other: str) -> str:
    found = [column for column in (name, other) if column in names]
    if len(found) == 1:
        return found[0]
    problem = "both are there" if found else f"the columns are {', '.join(names)}"
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
