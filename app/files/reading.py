"""Bytes of a file to a table of raw cells: CSV, JSON Lines or Parquet.

A file comes from anybody: pyarrow's readers are made, and fuzzed, for untrusted bytes. Rows are
counted as a spreadsheet shows them: the header of a CSV file is row 1, blank lines do not count.
"""

import csv
import re
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from app.errors import InvalidInputError, MalformedBodyError, PayloadTooLargeError

FileFormat = Literal["csv", "jsonl", "parquet"]

MAX_COLUMNS = 1000
MAX_DECODED_BYTES = 256 * 2**20
"""Most bytes that the columns of a Parquet file may hold, decompressed."""

_SEPARATORS = ",;\t|"
_BYTE_ORDER_MARKS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_PARQUET_MAGIC = b"PAR1"
_NUMBERED_ROW = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+)")
_JSON_ROW = re.compile(r"JSON parse error: (.*?)\.? in row (\d+)", re.DOTALL)
_MAX_REASON = 120


@dataclass(frozen=True, slots=True)
class RawTable:
    """Cells as the file has them, and the number of the first row that holds data."""

    table: pa.Table
    first_row: int
    separator: str | None = None


def read_file(
    content: bytes, file_format: FileFormat, *, max_rows: int, encoding: str | None = None
) -> RawTable:
    """Read a file.

    Args:
        content: Its bytes.
        file_format: What it is.
        max_rows: Most rows that it may have.
        encoding: Encoding of a CSV file that has no byte order mark; UTF-8 if None.

    Raises:
        MalformedBodyError: It is not of that format, or cut off.
        InvalidInputError: A row has more or fewer cells than there are columns, or a column twice.
        PayloadTooLargeError: It has too many rows or columns, or is too large when decompressed.
    """
    if not content.strip():
        raise MalformedBodyError("the file is empty")
    if file_format == "csv":
        raw = _read_csv(content, encoding)
    elif file_format == "jsonl":
        raw = RawTable(_read_json_lines(content), 1)
    else:
        raw = RawTable(_read_parquet(content, max_rows), 1)
    _check_shape(raw.table, max_rows)
    return raw


def _check_shape(table: pa.Table, max_rows: int) -> None:
    names = table.column_names
    if len(names) > MAX_COLUMNS:
        raise PayloadTooLargeError(f"the file may have at most {MAX_COLUMNS} columns")
    for name in names:
        if names.count(name) > 1:
            raise InvalidInputError(f"column {name} is there {names.count(name)} times")
    if table.num_rows > max_rows:
        raise PayloadTooLargeError(f"the file may have at most {max_rows} rows")
    if not table.num_rows:
        raise InvalidInputError("the file has no rows")


def _read_csv(content: bytes, encoding: str | None) -> RawTable:
    if content.startswith(_PARQUET_MAGIC):
        raise MalformedBodyError("this is a Parquet file, not CSV")
    content = _to_utf8(content, encoding)
    header = _decode(content.partition(b"\n")[0], "utf-8").rstrip("\r")
    separator = max(_SEPARATORS, key=lambda mark: len(_split_header(header, mark)))
    names = _split_header(header, separator)
    if len(names) > MAX_COLUMNS:
        raise PayloadTooLargeError(f"the file may have at most {MAX_COLUMNS} columns")
    if "" in names:
        raise InvalidInputError(f"row 1: column {names.index('') + 1} has no name")
    has_names = any(not _is_number(name) for name in names)
    columns = names if has_names else [f"column {index + 1}" for index in range(len(names))]
    first = int(has_names)
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(content),
            pyarrow.csv.ReadOptions(use_threads=False, column_names=columns, skip_rows=first),
            pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        _decode(content, "utf-8")
        raise _csv_error(error) from error
    return RawTable(table, first + 1, separator)


def _split_header(header: str, separator: str) -> list[str]:
    return [name.strip() for name in next(csv.reader([header], delimiter=separator))]


def _to_utf8(content: bytes, encoding: str | None) -> bytes:
    """Return the text in UTF-8; what should be that already is checked only as it is parsed."""
    known = [pair for pair in _BYTE_ORDER_MARKS if content.startswith(pair[0])]
    mark, named = known[0] if known else (b"", encoding or "utf-8")
    if named.lower() in {"utf-8", "utf8"}:
        content = content.removeprefix(mark)
    else:
        content = _decode(content, named).encode()
    if b"\0" in content:
        row = content[: content.index(b"\0")].count(b"\n") + 1
        raise MalformedBodyError(f"row {row} holds a zero byte: this is no text file in {named}")
    return content


def _decode(content: bytes, encoding: str) -> str:
    try:
        text = content.decode(encoding)
        text.encode()
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n") + 1
        raise MalformedBodyError(
            f"row {row}: byte {error.start} is not {encoding.upper()}; save the file as UTF-8, or "
            "name its encoding, as in `Content-Type: text/csv; charset=windows-1252`"
        ) from error
    except (LookupError, ValueError) as error:  # also codecs that are no encodings of text
        raise InvalidInputError("charset is no encoding that is known here") from error
    return text


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def _csv_error(error: pa.ArrowInvalid) -> InvalidInputError | MalformedBodyError:
    if match := _NUMBERED_ROW.search(str(error)):
        row, expected, found = match.groups()
        return InvalidInputError(
            f"row {row} has {found} cells where there are {expected} columns: a separator inside a "
            "value must be in quotes"
        )
    return MalformedBodyError(f"the file is not CSV: {_reason(error)}")


def _read_json_lines(content: bytes) -> pa.Table:
    try:
        content.decode()
        table = pyarrow.json.read_json(
            pa.BufferReader(content),
            pyarrow.json.ReadOptions(use_threads=False, block_size=max(len(content) + 1, 2**16)),
        )
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n") + 1
        raise MalformedBodyError(f"row {row}: byte {error.start} is not UTF-8") from error
    except pa.ArrowInvalid as error:
        if match := _JSON_ROW.search(str(error)):
            reason = match[1].replace("Column(/", "column ").replace(")", "")
            message = f"row {int(match[2]) + 1}: {reason}"
            raise InvalidInputError(message) from error
        raise MalformedBodyError(f"the file is not JSON Lines: {_reason(error)}") from error
    return table


def _read_parquet(content: bytes, max_rows: int) -> pa.Table:
    try:
        file = pyarrow.parquet.ParquetFile(
            pa.BufferReader(content),
            thrift_string_size_limit=2**24,
            thrift_container_size_limit=2**20,
        )
        _check_parquet(file, max_rows)
        texts = [f.name for f in file.schema_arrow if pa.types.is_string(f.type)]
        # As dictionaries: one long text in a million rows must not become a million texts.
        file = pyarrow.parquet.ParquetFile(pa.BufferReader(content), read_dictionary=texts)
        table = file.read(use_threads=False)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise MalformedBodyError(f"the file is not Parquet: {_reason(error)}") from error
    return table


def _check_parquet(file: pyarrow.parquet.ParquetFile, max_rows: int) -> None:
    metadata = file.metadata
    if metadata.num_columns > MAX_COLUMNS:
        raise PayloadTooLargeError(f"the file may have at most {MAX_COLUMNS} columns")
    if metadata.num_rows > max_rows:
        raise PayloadTooLargeError(f"the file may have at most {max_rows} rows")
    size = sum(
        metadata.row_group(group).column(column).total_uncompressed_size
        for group in range(metadata.num_row_groups)
        for column in range(metadata.num_columns)
    )
    if size > MAX_DECODED_BYTES:
        raise PayloadTooLargeError(
            f"decompressed, the file would hold {size} bytes, more than {MAX_DECODED_BYTES}"
        )


def _reason(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:_MAX_REASON]
