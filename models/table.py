"""Reading a long-format file: which column is which, and cells that are what they should be.

One row per item and time stamp: ``item_id, timestamp, target`` (or ``unique_id, ds, y``), and
covariate columns. Every complaint names the column and the row.
"""

import csv
import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from app.arrow import pa
from app.errors import InvalidInputError
from app.files.cells import (
    COMMA_NUMBER,
    MISSING_NUMBERS,
    Zones,
    find_zones,
    finds_decimal_commas,
    parse_stamp,
)
from app.files.csv_file import find_separator

_NAMES = {"item_id": "unique_id", "timestamp": "ds", "target": "y"}
_FIRST_LINES = 100
_NO_SEPARATOR = "\x1f"
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


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of a file as it has them, those of a CSV file as texts.

    Attributes:
        first_row: Number of the first row; a CSV file has its header in row 1.
        separator: What separates the cells of a CSV file; None in a Parquet file.
    """

    frame: pl.DataFrame
    first_row: int
    separator: str | None

    def with_decimal_points(self, names: Sequence[str]) -> pl.DataFrame:
        """Return the cells, with decimal points for commas in those columns that have commas."""
        frame = self.frame
        if self.separator in {None, ","}:
            return frame
        found = [name for name in names if finds_decimal_commas(to_arrow(frame[name]))]
        has_comma = pl.col(found).str.strip_chars().str.contains(COMMA_NUMBER)
        point = pl.col(found).str.replace(",", ".", literal=True)
        return frame.with_columns(pl.when(has_comma).then(point).otherwise(pl.col(found)))


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
    cells = read_file(path)
    names = cells.frame.columns
    columns = find_columns(names, path.name, covariates, categories)
    if cells.frame.is_empty():
        raise InvalidInputError(f"{path.name} has no rows")
    raw = cells.with_decimal_points((columns.target, *columns.covariates))
    return Table(check_rows(raw, columns, cells.first_row), columns.list_ignored(names))


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
        *(read_texts(raw[name]) for name in columns.categories),
    )


def read_file(path: Path) -> Cells:
    """Read a CSV file, whose header tells what separates its cells, or a Parquet file.

    Raises:
        InvalidInputError: It can not be read.
    """
    try:
        if is_parquet(path):
            return Cells(pl.read_parquet(path), 1, None)
        separator = find_separator(_read_header(path))
        return Cells(pl.read_csv(path, infer_schema=False, separator=separator), 2, separator)
    except (OSError, csv.Error, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInputError(f"{path} can not be read: {reason}") from error


def _read_header(path: Path) -> str:
    """Return the first line that is not blank, also of a compressed file."""
    lines = pl.read_csv(
        path,
        has_header=False,
        infer_schema=False,
        n_rows=_FIRST_LINES,
        separator=_NO_SEPARATOR,
        quote_char=None,
    )
    return next((line for line in lines[:, 0] if line), "")


def _find_column(names: Sequence[str], name: str, other: str) -> str:
    found = [column for column in (name, other) if column in names]
    if len(found) == 1:
        return found[0]
    problem = "both are there" if found else f"the columns are {', '.join(names)}"
    raise InvalidInputError(f"one column must be named {name} or {other}; {problem}")


def read_names(column: pl.Series, first_row: int) -> pl.Series:
    """Return ``column`` as texts, none of them empty.

    Raises:
        InvalidInputError: One is missing; the message names column and row.
    """
    names = column.cast(pl.String)
    refuse(names.is_null() | (names == ""), column, first_row, "is empty")
    return names


def read_texts(column: pl.Series) -> pl.Series:
    """Return ``column`` as texts without the space around them, null where one is empty."""
    texts = column.cast(pl.String).str.strip_chars()
    return texts.set(texts == "", None)


def blank_missing(column: pl.Series) -> pl.Series:
    """Return texts without the space around them, null where one says that a number is missing."""
    texts = column.str.strip_chars()
    return texts.set(texts.is_in(MISSING_NUMBERS), None)


def read_numbers(column: pl.Series, first_row: int) -> pl.Series:
    """Return ``column`` as ``Float64``, null where missing.

    Raises:
        InvalidInputError: A cell is no number; the message names column and row.
    """
    if column.dtype == pl.String:
        column = blank_missing(column)
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
        column = column.str.strip_chars()
        refuse(column.is_in(MISSING_NUMBERS), column, first_row, "is no time")
        steps = column.cast(pl.Int64, strict=False)
        return _parse_stamps(column, first_row) if steps.null_count() else steps
    if has_zone(column.dtype):
        column = drop_zone(column, in_utc=find_zones(to_arrow(column)).in_utc)
    if column.dtype == pl.Date or isinstance(column.dtype, pl.Datetime):
        return column.cast(pl.Datetime("us"))
    raise InvalidInputError(f"column {column.name} must hold dates, times or integer steps")


def has_zone(kind: pl.DataType) -> bool:
    """Return whether a column of that type holds times with a time zone."""
    return isinstance(kind, pl.Datetime) and kind.time_zone is not None


def drop_zone(column: pl.Series, *, in_utc: bool) -> pl.Series:
    """Return times with a time zone in UTC, or as wall time."""
    times = column.dt.convert_time_zone("UTC") if in_utc else column
    return times.dt.replace_time_zone(None)


def to_arrow(column: pl.Series) -> pa.ChunkedArray:
    """Return ``column`` as the readers of ``app.files`` take it."""
    return pa.chunked_array([column.to_arrow()])


def _parse_stamps(column: pl.Series, first_row: int) -> pl.Series:
    """Parse ISO 8601, in UTC or in wall time, as ``Zones`` has it."""
    texts = column.unique(maintain_order=True)
    parsed = {text: parse_stamp(text) for text in texts}
    wrong = [text for text, stamp in parsed.items() if stamp is None]
    refuse(column.is_in(wrong), column, first_row, "is no ISO 8601 date or time")
    stamps = {text: stamp for text, stamp in parsed.items() if stamp is not None}
    zones = Zones.of(stamps.values())
    if zones.are_mixed:
        raise InvalidInputError(f"column {column.name}: some stamps have a time zone, others none")
    if zones.in_utc:
        stamps = {text: stamp.astimezone(dt.UTC) for text, stamp in stamps.items()}
    wall = {text: stamp.replace(tzinfo=None) for text, stamp in stamps.items()}
    return column.replace_strict(wall, return_dtype=pl.Datetime("us"))


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
