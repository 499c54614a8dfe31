"""Columns of raw cells to NumPy arrays; each complaint names the column and the row."""

# pyarrow.compute makes its functions when it is imported.
# pyright: reportAttributeAccessIssue=false

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.errors import InvalidInputError
from app.tensors import LARGEST_MAGNITUDE

_MISSING = pa.array(["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"])
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_COMMA_NUMBER = r"^[+-]?[0-9]+,[0-9]+$"
_POINT_NUMBER = r"^[+-]?[0-9]+\.[0-9]+$"
_INTEGER = r"^[+-]?[0-9]{1,18}$"
_MONTH_LENGTH = len("2024-01")
_MAX_SHOWN = 40

Times = NDArray[np.datetime64] | NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a file, and the number of its first row."""

    name: str
    cells: pa.ChunkedArray
    first_row: int

    def refuse(self, is_wrong: NDArray[np.bool_], problem: str) -> None:
        """Raise an error that names the first row where ``is_wrong`` holds, if there is one."""
        rows = np.flatnonzero(is_wrong)
        if not rows.size:
            return
        shown = str(self.cells[int(rows[0])].as_py())
        shown = shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}..."
        more = f" (and {rows.size - 1} more rows)" if rows.size > 1 else ""
        row = self.first_row + int(rows[0])
        raise InvalidInputError(f"column {self.name}, row {row}: {shown!r} {problem}{more}")


def plain_text(cells: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Return cells of text without the space around them; None where they are no text."""
    kind = cells.type
    if pa.types.is_dictionary(kind):
        cells = cells.cast(kind.value_type)
    if not (pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type)):
        return None
    return pc.utf8_trim_whitespace(cells.cast(pa.string()))


def read_names(column: Column, *, max_length: int) -> tuple[NDArray[np.int64], list[str]]:
    """Return the number of each row's item, in order of appearance, and the items' names.

    Raises:
        InvalidInputError: A cell is empty or too long.
    """
    cells = column.cells
    if pa.types.is_nested(cells.type):
        raise InvalidInputError(f"column {column.name} must hold names, not {cells.type}")
    if not pa.types.is_dictionary(cells.type):
        cells = cells.cast(pa.string()).dictionary_encode()
    whole = cells.combine_chunks()
    encoded = whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
    column.refuse(_to_bool(pc.is_null(encoded)), "is empty")
    names = encoded.dictionary.cast(pa.string()).to_pylist()
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    is_bad = np.array([not name or len(name) > max_length for name in names])
    column.refuse(is_bad[codes], f"must have 1 to {max_length} characters")
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    return rank[inverse], [names[codes[row]] for row in np.sort(first)]


def read_numbers(column: Column, *, decimal_comma: bool) -> NDArray[np.float64]:
    """Return numbers, NaN where one is missing.

    Raises:
        InvalidInputError: A cell is no number, or too large.
    """
    text = plain_text(column.cells)
    numbers = _from_text(column, text, decimal_comma=decimal_comma) if text else _cast(column)
    column.refuse(np.abs(numbers) > LARGEST_MAGNITUDE, f"is beyond {LARGEST_MAGNITUDE:g}")
    return numbers


def has_decimal_commas(cells: pa.ChunkedArray) -> bool:
    """Whether some cell is a number such as ``3,5``, and none such as ``3.5``."""
    text = plain_text(cells)
    if text is None:
        return False
    has_point = pc.any(pc.match_substring_regex(text, _POINT_NUMBER)).as_py()
    return bool(pc.any(pc.match_substring_regex(text, _COMMA_NUMBER)).as_py()) and not has_point


def is_numeric(cells: pa.ChunkedArray) -> bool:
    """Whether every cell that is not missing is a number."""
    text = plain_text(cells)
    if text is None:
        return _is_number_type(cells.type)
    text = pc.replace_substring(text, ",", ".")
    good = pc.or_(pc.match_substring_regex(text, _NUMBER), pc.is_in(text, _MISSING))
    return bool(pc.all(good).as_py())


def is_time(cells: pa.ChunkedArray) -> bool:
    """Whether the first cell that is not missing is a date or a time."""
    text = plain_text(cells)
    if text is None:
        return bool(pa.types.is_timestamp(cells.type) or pa.types.is_date(cells.type))
    first = str(next((cell.as_py() for cell in text if cell.as_py()), ""))
    return not first.isdigit() and _parse_stamp(first) is not None


def read_times(column: Column) -> Times:
    """Return stamps as ``datetime64[us]``, wall time, or plain integer steps.

    Raises:
        InvalidInputError: A cell is empty, or no ISO 8601 date or time.
    """
    cells = column.cells
    column.refuse(_to_bool(pc.is_null(cells)), "is empty")
    text = plain_text(cells)
    if text is not None:
        return _parse_times(column, text)
    if pa.types.is_integer(cells.type):
        steps: NDArray[np.int64] = cells.to_numpy().astype(np.int64)
        return steps
    if pa.types.is_timestamp(cells.type) and cells.type.tz:
        cells = pc.local_timestamp(cells)
    if pa.types.is_timestamp(cells.type) or pa.types.is_date(cells.type):
        return _to_microseconds(cells.cast(pa.timestamp("us"), safe=False).to_numpy())
    raise InvalidInputError(f"column {column.name} must hold dates, times or integer steps")


def _parse_times(column: Column, text: pa.ChunkedArray) -> Times:
    if pc.all(pc.match_substring_regex(text, _INTEGER)).as_py():
        steps: NDArray[np.int64] = text.cast(pa.int64()).to_numpy()
        return steps
    encoded: Any = text.combine_chunks().dictionary_encode()
    encoded = encoded.chunk(0) if isinstance(encoded, pa.ChunkedArray) else encoded
    codes: NDArray[np.int64] = encoded.indices.to_numpy(zero_copy_only=False)
    parsed = [_parse_stamp(cell) for cell in encoded.dictionary.to_pylist()]
    is_wrong = np.array([stamp is None for stamp in parsed])
    column.refuse(is_wrong[codes], "is no ISO 8601 date or time, such as 2024-01-31")
    stamps = _to_wall_time(column, [stamp for stamp in parsed if stamp is not None])
    return _to_microseconds(np.array(stamps, "M8[us]"))[codes]


def _to_microseconds(stamps: NDArray[np.datetime64]) -> NDArray[np.datetime64]:
    return stamps.astype("M8[us]")


def _to_wall_time(column: Column, stamps: Sequence[dt.datetime]) -> list[dt.datetime]:
    """With several offsets from UTC, in UTC; otherwise as the clock showed."""
    offsets = {stamp.utcoffset() for stamp in stamps}
    if None in offsets and len(offsets) > 1:
        raise InvalidInputError(f"column {column.name}: some stamps have a time zone, others none")
    if len(offsets) > 1:
        stamps = [stamp.astimezone(dt.UTC) for stamp in stamps]
    return [stamp.replace(tzinfo=None) for stamp in stamps]


def _parse_stamp(text: str) -> dt.datetime | None:
    try:
        return dt.datetime.fromisoformat(f"{text}-01" if len(text) == _MONTH_LENGTH else text)
    except ValueError:
        return None


def _from_text(
    column: Column, text: pa.ChunkedArray, *, decimal_comma: bool
) -> NDArray[np.float64]:
    missing = pc.or_kleene(pc.is_null(text), pc.is_in(text, _MISSING))
    if decimal_comma:
        text = pc.replace_substring(text, ",", ".")
    is_number = pc.fill_null(pc.match_substring_regex(text, _NUMBER), fill_value=False)
    column.refuse(~_to_bool(pc.or_(is_number, missing)), "is not a number")
    return _to_float64(pc.if_else(missing, pa.scalar(None, pa.string()), text))


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
