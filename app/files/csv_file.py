"""CSV files: their separator, header and cells, all of them as text."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence

from typing_extensions import override

from app.arrow import pa, pa_csv
from app.errors import InvalidInputError, MalformedBodyError, PayloadTooLargeError
from app.files.raw import (
    MAX_COLUMNS,
    RawFile,
    RawPiece,
    Source,
    check_columns,
    first_line_of,
    open_native,
)
from app.files.text import Utf8Text

_SEPARATORS = ",;\t|"
_NUMBERED_ROW = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+)")
_LINE_END = re.compile(rb"\r\n?|\n")
_STRADDLING = "straddling object"
_BLOCK_BYTES = 2**20
"""Also the longest row; pyarrow reads up to 32 blocks ahead."""


class CsvFile(RawFile):
    """A CSV file; one whose header holds a number alone has no header.

    Raises:
        MalformedBodyError: It is no text, or not in its encoding.
        InvalidInputError: A column has no name, or one that another has.
        PayloadTooLargeError: There are too many columns.
    """

    def __init__(self, source: Source, encoding: str | None) -> None:
        self._text = Utf8Text(source, encoding)
        num_blank, header = self._read_header()
        try:
            self.separator = find_separator(header)
            names = _split(header, self.separator)
        except csv.Error as error:
            raise _first_row_too_long() from error
        if len(names) > MAX_COLUMNS:
            raise PayloadTooLargeError(f"the file may have at most {MAX_COLUMNS} columns")
        if "" in names:
            raise InvalidInputError(f"row 1: column {names.index('') + 1} has no name")
        has_names = any(not _is_number(name) for name in names)
        numbered = [f"column {index + 1}" for index in range(len(names))]
        self.column_names = names if has_names else numbered
        self._num_skipped = num_blank + int(has_names)
        check_columns(self.column_names)

    def _read_header(self) -> tuple[int, str]:
        """Return the first line that is not blank, and how many are before it."""
        start = self._text.start.lstrip()
        blank = self._text.start.removesuffix(start)
        try:
            return len(_LINE_END.findall(blank)), _LINE_END.split(start, 1)[0].decode()
        except UnicodeDecodeError:
            self._text.check()
            raise _first_row_too_long() from None

    @override
    def pieces(self, columns: Sequence[str] | None = None) -> Iterator[RawPiece]:
        row = self._num_skipped + 1
        with open_native(self._text.source) as file:
            try:
                for batch in self._open(file, columns or self.column_names):
                    yield RawPiece(pa.Table.from_batches([batch]), row)
                    row += batch.num_rows
            except pa.ArrowInvalid as error:
                self._text.check()
                raise _translate(error, row) from error

    def _open(self, file: pa.NativeFile, columns: Sequence[str]) -> pa_csv.CSVStreamingReader:
        return pa_csv.open_csv(
            file,
            pa_csv.ReadOptions(
                use_threads=False,
                block_size=_BLOCK_BYTES,
                column_names=self.column_names,
                skip_rows=self._num_skipped,
            ),
            pa_csv.ParseOptions(delimiter=self.separator, newlines_in_values=True),
            pa_csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()),
                strings_can_be_null=False,
                include_columns=columns,
            ),
        )

    @override
    def close(self) -> None:
        self._text.close()


def find_separator(header: str) -> str:
    """Return what separates the names in the first line of a CSV file.

    Raises:
        csv.Error: The line is too long, or holds an end of a line.
    """
    return max(_SEPARATORS, key=lambda mark: len(_split(header, mark)))


def _split(header: str, separator: str) -> list[str]:
    return [name.strip() for name in next(csv.reader([header], delimiter=separator))]


def _first_row_too_long() -> MalformedBodyError:
    return MalformedBodyError("row 1 is too long")


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def _translate(error: pa.ArrowInvalid, row: int) -> InvalidInputError | MalformedBodyError:
    if match := _NUMBERED_ROW.search(str(error)):
        number, expected, found = match.groups()
        return InvalidInputError(
            f"row {number} has {found} cells where there are {expected} columns: a separator "
            "inside a value must be in quotes"
        )
    if _STRADDLING in str(error):
        return InvalidInputError(
            f"after row {row - 1}, a row is longer than {_BLOCK_BYTES} bytes: is a quote left open?"
        )
    return MalformedBodyError(f"the file is not CSV: {first_line_of(error)}")
