"""A data file of any size as a stream of series, in bounded memory.

A first pass looks at every row. Then the series come one after another: of a small file from
memory; of a large one whose rows are in order of item straight from the file; of any other from
files beside it into which the rows are divided by item. The order of the series depends on nothing
but the file: as they appear in it, or, where rows had to be divided, as they appear in their part.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

import numpy as np

from app.files.columns import ColumnRoles, Covariates, FoundColumns
from app.files.partitions import Partitions
from app.files.raw import FileFormat, FileLimits, RawFile, Source
from app.files.reading import open_file
from app.files.rows import RowReader, Rows, join_rows
from app.files.series import FileSeries, RefusedSeries, SeriesBuilder
from app.files.survey import Survey, find_layout, survey_file

_NO_ROLES = ColumnRoles()
_NO_COVARIATES = Covariates()
_NO_LIMITS = FileLimits()


@dataclass(frozen=True, kw_only=True, slots=True)
class SeriesOptions:
    """How a file is to be read.

    Attributes:
        roles: Columns that are known.
        covariates: Columns that are covariates; all others are ignored.
        freq: Spacing of the stamps; None infers it from the first series.
        encoding: Encoding of a CSV file that has no byte order mark; UTF-8 if None.
        limits: What the file may hold.
        mode: Whether a series with something wrong in it is raised (``strict``), or comes as a
            ``RefusedSeries`` while the others go through (``lenient``).
    """

    roles: ColumnRoles = _NO_ROLES
    covariates: Covariates = _NO_COVARIATES
    freq: str | None = None
    encoding: str | None = None
    limits: FileLimits = _NO_LIMITS
    mode: Literal["strict", "lenient"] = "strict"


def open_series(source: Source, file_format: FileFormat, options: SeriesOptions) -> "SeriesStream":
    """Open a file and look at all of its rows once; use the stream in a ``with`` statement.

    Raises:
        MalformedBodyError: It is not of that format, or cut off.
        InvalidInputError: A row or a column is wrong, or, where the mode is strict, a cell.
        PayloadTooLargeError: It has too many rows or columns, or is too large when decompressed.
    """
    file = open_file(source, file_format, limits=options.limits, encoding=options.encoding)
    try:
        layout = find_layout(file, options.roles, options.covariates)
        survey = survey_file(
            file,
            layout,
            options.freq,
            limits=options.limits,
            keeps_complaints=options.mode == "lenient",
        )
        return SeriesStream(file, survey, options)
    except BaseException:
        file.close()
        raise


class SeriesStream:
    """The series of a file; it can be iterated again and again, each time with the same result.

    Attributes:
        columns: Which column is which.
        column_names: All columns of the file.
        separator: What separates the cells of a CSV file.
        freq: Canonical alias; None where time is a plain step.
        num_rows: Rows of the file.
    """

    def __init__(self, file: RawFile, survey: Survey, options: SeriesOptions) -> None:
        self._file = file
        self._survey = survey
        self._options = options
        self._builder = SeriesBuilder(survey.layout, survey.freq, options.limits)
        self._partitions: Partitions | None = None
        self.columns: FoundColumns = survey.layout.columns
        self.column_names = tuple(file.column_names)
        self.separator = file.separator
        self.freq = survey.freq.alias if survey.freq else None
        self.num_rows = survey.num_rows

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Delete what was written beside the file."""
        self._file.close()
        if self._partitions is not None:
            self._partitions.close()
            self._partitions = None

    def __iter__(self) -> Iterator[FileSeries | RefusedSeries]:
        """Return the series.

        Raises:
            InvalidInputError: A series is wrong, where the mode is strict.
            PayloadTooLargeError: A series is too long, where the mode is strict.
        """
        is_strict = self._options.mode == "strict"
        for rows in self._whole_items():
            for series in self._builder.build(rows):
                if is_strict and isinstance(series, RefusedSeries):
                    raise series.error
                yield series

    def count(self) -> int:
        """Count the series, refused ones too; of a file that has to be divided by reading it again.

        Raises:
            InvalidInputError: As when they are iterated.
            PayloadTooLargeError: As when they are iterated.
        """
        if self._survey.num_items is not None:
            return self._survey.num_items
        return sum(1 for _ in self)

    def _whole_items(self) -> Iterator[Rows]:
        """Return pieces of rows, each with all rows of its items."""
        if self._survey.rows is not None:
            yield join_rows(self._survey.rows)
        elif self._survey.is_contiguous:
            yield from _cut_at_items(self._read_rows(), self._options.limits.max_series_steps)
        else:
            if self._partitions is None:
                self._partitions = self._divide()
            yield from self._partitions.read()

    def _read_rows(self) -> Iterator[Rows]:
        layout = self._survey.layout
        reader = RowReader(
            layout, self._file.separator, keeps_complaints=self._options.mode == "lenient"
        )
        for piece in self._file.pieces(layout.names):
            if piece.table.num_rows:
                yield reader.read(piece)

    def _divide(self) -> Partitions:
        num_covariates = len(self._survey.layout.covariates.names)
        count = 1 + self.num_rows * (1 + num_covariates) // self._options.limits.rows_in_memory
        partitions = Partitions(count, num_covariates)
        try:
            for rows in self._read_rows():
                partitions.add(rows)
            partitions.finish()
        except BaseException:
            partitions.close()
            raise
        return partitions


def _cut_at_items(pieces: Iterator[Rows], max_rows: int) -> Iterator[Rows]:
    """Put each item's rows together where they are in several pieces.

    Of an item with more than ``max_rows`` rows, no more than one piece is kept beyond that: it is
    too long anyway.
    """
    kept: list[Rows] = []
    for rows in pieces:
        last_start = int(np.flatnonzero(np.diff(rows.item, prepend=-1))[-1])
        goes_on = bool(kept) and _name_at(kept[-1], -1) == _name_at(rows, 0)
        if goes_on and not last_start:
            if sum(map(len, kept)) <= max_rows:
                kept.append(rows)
            continue
        if whole := [part for part in (*kept, rows.part(0, last_start)) if len(part)]:
            yield join_rows(whole)
        kept = [rows.part(last_start, len(rows))]
    if kept:
        yield join_rows(kept)


def _name_at(rows: Rows, row: int) -> str:
    return str(rows.names[int(rows.item[row])])
