"""Columns of raw cells to NumPy arrays; each complaint names the column and the row.

A complaint is raised, or kept for its row where other rows shall go through.
"""

# pyarrow.compute makes its functions when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import datetime as dt
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.arrow import pa, pc
from app.errors import InvalidInputError
from app.files.raw import first_line_of
from app.tensors import LARGEST_MAGNITUDE

MISSING_NUMBERS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
"""What a cell of numbers says where one is missing; elsewhere these are texts like any other."""

COMMA_NUMBER = r"^[+-]?([0-9]+,?[0-9]*|,[0-9]+)([eE][+-]?[0-9]+)?$"
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_WITH_COMMA = r"^[+-]?[0-9]+,[0-9]+$"
_WITH_POINT = r"^[+-]?[0-9]+\.[0-9]+$"
_INTEGER = r"^[+-]?[0-9]{1,18}$"
_MONTH_LENGTH = len("2024-01")
_MAX_SHOWN = 40
_NO_STAMP = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - stands for a missing stamp, which has no zone
_LONGEST_VALUE = 200
"""No number and no stamp is longer: such a text of a dictionary is cut."""

_DAY_MICROSECONDS = 86_400_000_000
_LARGEST_STEP = 2**62 - 1
"""So that the distance of two steps is an int64."""

_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
"""Of the years 1 to 9999, which stamps may have; counted from 1970."""

_TICKS_A_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_OUTSIDE_YEARS = "is outside the years 1 to 9999"


@dataclass(frozen=True, slots=True)
class Zones:
    """What the time zones of some stamps make of them.

    Attributes:
        offsets: From UTC; None where a stamp has none.
        are_midnights: Whether the wall time of each stamp is midnight.
    """

    offsets: frozenset[dt.timedelta | None] = frozenset()
    are_midnights: bool = True

    @classmethod
    def of(cls, stamps: Iterable[dt.datetime]) -> Zones:
        """Look at some stamps."""
        found, midnight = list(stamps), dt.time()
        return cls(
            frozenset(stamp.utcoffset() for stamp in found),
            are_midnights=all(stamp.time() == midnight for stamp in found),
        )

    def __or__(self, other: Zones) -> Zones:
        return Zones(
            self.offsets | other.offsets, are_midnights=self.are_midnights and other.are_midnights
        )

    @property
    def are_mixed(self) -> bool:
        """Whether some stamps have an offset and others none."""
        return None in self.offsets and len(self.offsets) > 1

    @property
    def in_utc(self) -> bool:
        """Whether steps are even in UTC alone; those from midnight to midnight are local days."""
        return len(self.offsets) > 1 and not self.are_midnights


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a piece of a file, and the number of its first row.

    Attributes:
        complaints: Takes the first complaint about each row, by its position in the piece; None
            where a complaint shall be raised.
    """

    name: str
    cells: pa.ChunkedArray
    first_row: int
    complaints: dict[int, str] | None = None

    def refuse(self, is_wrong: NDArray[np.bool_], problem: str) -> None:
        """Complain about the rows where ``is_wrong`` holds, if there are any.

        Raises:
            InvalidInputError: There is one, and complaints are not kept.
        """
        rows = np.flatnonzero(is_wrong)
        if self.complaints is not None:
            for row in rows.tolist():
                self.complaints.setdefault(row, self._complain(row, problem))
        elif rows.size:
            more = f" (and {rows.size - 1} more rows)" if rows.size > 1 else ""
            raise InvalidInputError(f"{self._complain(int(rows[0]), problem)}{more}")

    def _complain(self, row: int, problem: str) -> str:
        shown = _show(self.cells[row])
        shown = shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}..."
        return f"column {self.name}, row {self.first_row + row}: {shown!r} {problem}"


def _show(cell: Any) -> str:
    """A stamp may be one that Python has not."""
    return str(cell.cast(pa.string()) if pa.types.is_temporal(cell.type) else cell.as_py())


@contextmanager
def naming_column(name: str) -> Generator[None]:
    """Name the column whose cells pyarrow can not read.

    Raises:
        InvalidInputError: It can not, such as names that are not UTF-8, or an unknown time zone.
    """
    try:
        yield
    except pa.ArrowException as error:
        raise InvalidInputError(f"column {name} can not be read: {first_line_of(error)}") from error


@cache
def _missing() -> pa.Array:
    return pa.array(MISSING_NUMBERS)


def plain_text(cells: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Return cells of text without the space around them; None where they are no text."""
    if pa.types.is_dictionary(cells.type):
        if not _is_text(cells.type.value_type):
            return plain_text(cells.cast(cells.type.value_type))
        cells = pa.chunked_array([_plain_dictionary(c) for c in cells.chunks], pa.string())
        return pc.utf8_trim_whitespace(cells)
    return pc.utf8_trim_whitespace(cells.cast(pa.string())) if _is_text(cells.type) else None


def _plain_dictionary(cells: pa.DictionaryArray) -> pa.StringArray:
    """A long text that many rows share must not become many long texts."""
    values = pc.utf8_trim_whitespace(cells.dictionary.cast(pa.string()))
    is_long = pc.greater(pc.utf8_length(values), _LONGEST_VALUE)
    cut = pc.binary_join_element_wise(pc.utf8_slice_codeunits(values, 0, _MAX_SHOWN), "...", "")
    return pc.if_else(is_long, cut, values).take(cells.indices)


def read_names(column: Column, *, max_length: int) -> tuple[NDArray[np.int64], pa.StringArray]:
    """Return the number of each row's item, in order of appearance, and the items' names.

    A row that is complained of belongs to an item without a name.

    Raises:
        InvalidInputError: A cell is empty or too long.
        pa.ArrowException: As all readers here; see ``naming_column``.
    """
    cells = column.cells
    if pa.types.is_nested(cells.type):
        raise InvalidInputError(f"column {column.name} must hold names, not {cells.type}")
    if not pa.types.is_dictionary(cells.type):
        cells = cells.cast(pa.string()).dictionary_encode()
    encoded = _one_array(cells)
    column.refuse(_to_bool(pc.is_null(encoded)), "is empty")
    names = encoded.dictionary.cast(pa.string())
    names.validate(full=True)  # texts of a Parquet file may be no UTF-8
    length = pc.fill_null(pc.utf8_length(names), 0)
    is_good = pc.and_(pc.greater(length, 0), pc.less_equal(length, max_length))
    names = pc.if_else(is_good, names, "")
    codes = pc.fill_null(encoded.indices.cast(pa.int64()), len(names))
    is_bad = np.append(~_to_bool(is_good), False)[codes]
    column.refuse(is_bad, f"must have 1 to {max_length} characters")
    codes = pc.if_else(pa.array(is_bad), len(names), codes).dictionary_encode()
    return (
        codes.indices.to_numpy().astype(np.int64),
        pa.concat_arrays([names, pa.array([""])]).take(codes.dictionary),
    )


def _one_array(cells: pa.ChunkedArray) -> Any:
    whole = cells.combine_chunks()
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole


def read_numbers(column: Column, *, decimal_comma: bool) -> NDArray[np.float64]:
    """Return numbers, NaN where one is missing or complained of.

    Raises:
        InvalidInputError: A cell is no number, or too large.
    """
    text = plain_text(column.cells)
    numbers = (
        _cast(column) if text is None else _from_text(column, text, decimal_comma=decimal_comma)
    )
    column.refuse(np.abs(numbers) > LARGEST_MAGNITUDE, f"is beyond {LARGEST_MAGNITUDE:g}")
    return numbers


def read_categories(column: Column, known: Sequence[str]) -> NDArray[np.float64]:
    """Return the place of each text among ``known``, from 1; 0 for others, NaN where empty."""
    text = plain_text(column.cells)
    if text is None:
        text = column.cells.cast(pa.string())
    places = pc.add(pc.index_in(text, pa.array(known, pa.string())), 1)
    codes: NDArray[np.float64] = pc.fill_null(places, 0).to_numpy().astype(np.float64)
    codes[_to_bool(pc.or_kleene(pc.is_null(text), pc.equal(text, "")))] = np.nan
    return codes


def finds_decimal_commas(cells: pa.ChunkedArray) -> bool | None:
    """Whether decimals have commas: False where some have points, None where there are none."""
    text = plain_text(cells)
    if text is None or pc.any(pc.match_substring_regex(text, _WITH_POINT)).as_py():
        return False
    return pc.any(pc.match_substring_regex(text, _WITH_COMMA)).as_py() or None


def is_numeric(cells: pa.ChunkedArray) -> bool:
    """Whether every cell that is not missing is a number."""
    text = plain_text(cells)
    if text is None:
        return _is_number_type(cells.type)
    text = pc.replace_substring(text, ",", ".")
    good = pc.or_(pc.match_substring_regex(text, _NUMBER), pc.is_in(text, _missing()))
    return bool(pc.all(good).as_py())


def is_time(cells: pa.ChunkedArray) -> bool:
    """Whether the first cell that is not missing is a date or a time."""
    text = plain_text(cells)
    if text is None:
        return bool(pa.types.is_timestamp(cells.type) or pa.types.is_date(cells.type))
    first = str(next((cell.as_py() for cell in text if cell.as_py()), ""))
    return not first.isdigit() and parse_stamp(first) is not None


def has_steps(cells: pa.ChunkedArray) -> bool:
    """Whether every cell that is not missing is a plain integer step."""
    text = plain_text(cells)
    if text is None:
        return bool(pa.types.is_integer(cells.type))
    return bool(pc.all(pc.match_substring_regex(text, _INTEGER)).as_py())


def find_zones(cells: pa.ChunkedArray) -> Zones:
    """Return what the zones of stamps are, in cells of text or of time with a zone."""
    text = plain_text(cells)
    if text is not None:
        parsed = (parse_stamp(cell) for cell in text.unique().to_pylist() if cell)
        return Zones.of(stamp for stamp in parsed if stamp is not None)
    if not _has_zone(cells.type):
        return Zones()
    sound = cells.filter(pa.array(~_are_outside_years(cells))).drop_null()
    stamps = sound.cast(pa.timestamp("us", cells.type.tz), safe=False)
    wall = pc.local_timestamp(stamps).cast(pa.int64()).to_numpy()
    offsets = np.unique(wall - stamps.cast(pa.int64()).to_numpy())
    return Zones(
        frozenset(dt.timedelta(microseconds=offset) for offset in offsets.tolist()),
        are_midnights=not (wall % _DAY_MICROSECONDS).any(),
    )


def read_steps(column: Column) -> NDArray[np.int64]:
    """Return plain integer steps; 0 where a cell is complained of.

    Raises:
        InvalidInputError: A cell is empty, no whole number, or too large.
    """
    column.refuse(_to_bool(pc.is_null(column.cells)), "is empty")
    text = plain_text(column.cells)
    if text is not None:
        is_step = pc.fill_null(pc.match_substring_regex(text, _INTEGER), fill_value=False)
        column.refuse(~_to_bool(is_step), "is no whole number, as the first rows have")
        steps = pc.if_else(is_step, text, "0").cast(pa.int64()).to_numpy()
    elif pa.types.is_integer(column.cells.type):
        steps = pc.fill_null(column.cells, 0).to_numpy()
    else:
        raise _no_times(column)
    is_large = (steps < -_LARGEST_STEP) | (steps > _LARGEST_STEP)
    column.refuse(is_large, f"is beyond {_LARGEST_STEP}")
    return np.where(is_large, 0, steps).astype(np.int64)


def read_stamps(column: Column, *, in_utc: bool) -> NDArray[np.datetime64]:
    """Return stamps as ``datetime64[us]``; 1970 where a cell is complained of.

    Args:
        column: Its cells.
        in_utc: Whether stamps with a zone are turned to UTC; if not, the wall time counts.

    Raises:
        InvalidInputError: A cell is empty, no ISO 8601 date or time, or of no year from 1 to 9999.
    """
    cells = column.cells
    column.refuse(_to_bool(pc.is_null(cells)), "is empty")
    text = plain_text(cells)
    if text is not None:
        return _parse_stamps(column, text, in_utc=in_utc)
    if not (pa.types.is_timestamp(cells.type) or pa.types.is_date(cells.type)):
        raise _no_times(column)
    cells = _within_years(column, cells)
    if _has_zone(cells.type) and not in_utc:
        cells = _within_years(column, pc.local_timestamp(cells))
    stamps = cells.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    return _to_microseconds(pc.fill_null(stamps, 0).to_numpy().view("M8[us]"))


def _no_times(column: Column) -> InvalidInputError:
    return InvalidInputError(f"column {column.name} must hold dates, times or integer steps")


def _within_years(column: Column, cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """Complain about stamps that none can be; they are missing in what is returned."""
    is_outside = _are_outside_years(cells)
    # Without the zone: pyarrow can not tell the wall time of such a stamp.
    shown = cells.cast(pa.timestamp(cells.type.unit)) if _has_zone(cells.type) else cells
    replace(column, cells=shown).refuse(is_outside, _OUTSIDE_YEARS)
    return pc.if_else(pa.array(is_outside), pa.scalar(None, cells.type), cells)


def _are_outside_years(cells: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Compare in the unit of the cells: in a finer one, a large number turns into another."""
    if pa.types.is_date(cells.type):
        cells = cells.cast(pa.date64())
    ticks_a_second = _TICKS_A_SECOND["ms" if pa.types.is_date(cells.type) else cells.type.unit]
    ticks = pc.fill_null(cells.cast(pa.int64()), 0).to_numpy()
    first, end = _FIRST_SECOND * ticks_a_second, (_LAST_SECOND + 1) * ticks_a_second
    is_outside: NDArray[np.bool_] = (ticks < first) | (ticks >= end)
    return is_outside


def _parse_stamps(column: Column, text: pa.ChunkedArray, *, in_utc: bool) -> NDArray[np.datetime64]:
    encoded = _one_array(pc.fill_null(text, "").dictionary_encode())
    codes: NDArray[np.int64] = encoded.indices.to_numpy(zero_copy_only=False)
    parsed = [parse_stamp(cell) for cell in encoded.dictionary.to_pylist()]
    is_wrong = np.array([stamp is None for stamp in parsed])
    column.refuse(is_wrong[codes], "is no ISO 8601 date or time, such as 2024-01-31")
    plain = [_to_wall_time(stamp, in_utc=in_utc) for stamp in parsed]
    is_outside = np.array([stamp is None for stamp in plain])
    column.refuse(is_outside[codes], _OUTSIDE_YEARS)
    stamps = [_NO_STAMP if stamp is None else stamp for stamp in plain]
    return _to_microseconds(np.array(stamps, "M8[us]"))[codes]


def _to_microseconds(stamps: NDArray[np.datetime64]) -> NDArray[np.datetime64]:
    return stamps.astype("M8[us]")


def _to_wall_time(stamp: dt.datetime | None, *, in_utc: bool) -> dt.datetime | None:
    """Return None where UTC has it in another year than 1 to 9999."""
    if stamp is None:
        return _NO_STAMP
    if in_utc and stamp.tzinfo is not None:
        try:
            stamp = stamp.astimezone(dt.UTC)
        except OverflowError:
            return None
    return stamp.replace(tzinfo=None)


def parse_stamp(text: str) -> dt.datetime | None:
    """Read an ISO 8601 date, time or month; None where a text is none."""
    try:
        return dt.datetime.fromisoformat(f"{text}-01" if len(text) == _MONTH_LENGTH else text)
    except ValueError:
        return None


def _from_text(
    column: Column, text: pa.ChunkedArray, *, decimal_comma: bool
) -> NDArray[np.float64]:
    missing = pc.or_kleene(pc.is_null(text), pc.is_in(text, _missing()))
    pattern = COMMA_NUMBER if decimal_comma else _NUMBER
    is_number = pc.fill_null(pc.match_substring_regex(text, pattern), fill_value=False)
    column.refuse(~_to_bool(pc.or_(is_number, missing)), "is not a number")
    text = pc.replace_substring(text, ",", ".") if decimal_comma else text
    return _to_float64(pc.if_else(is_number, text, pa.scalar(None, pa.string())))


def _has_zone(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) and kind.tz)


def _is_text(kind: pa.DataType) -> bool:
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(check(kind) for check in checks)


def _cast(column: Column) -> NDArray[np.float64]:
    if not _is_number_type(column.cells.type):
        raise InvalidInputError(f"column {column.name} must hold numbers, not {column.cells.type}")
    return _to_float64(column.cells)


def _to_float64(cells: pa.ChunkedArray) -> NDArray[np.float64]:
    numbers: NDArray[np.float64] = cells.cast(pa.float64(), safe=False).to_numpy()
    return numbers.astype(np.float64)


def _is_number_type(kind: pa.DataType) -> bool:
    checks = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_null)
    return any(check(kind) for check in checks) or pa.types.is_decimal(kind)


def _to_bool(cells: pa.ChunkedArray | pa.Array) -> NDArray[np.bool_]:
    return np.asarray(cells, np.bool_)
