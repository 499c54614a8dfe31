"""The file of a bulk run: its digest, and its series, some at a time."""

import hashlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from app.errors import InvalidInputError
from app.files.columns import ColumnRoles
from app.files.reading import FileFormat, read_file
from app.files.series import FileSeries, read_series

_FORMATS: dict[str, FileFormat] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_MAX_ROWS = 2**31


@dataclass(frozen=True, slots=True)
class RefusedSeries:
    """One series that can not be read, and why."""

    item_id: str | None
    reason: str


Chunk = list[FileSeries | RefusedSeries]


@dataclass(frozen=True, slots=True)
class Source:
    """An open file.

    Attributes:
        freq: Spacing of its stamps; None where time is a plain step.
        num_series: How many there are.
    """

    freq: str | None
    num_series: int
    series: Iterator[FileSeries | RefusedSeries]

    def take(self, count: int) -> Chunk:
        """Return the next series, in an order that is always the same; none at the end."""
        return list(islice(self.series, count))


@contextmanager
def open_source(path: Path, roles: ColumnRoles, freq: str | None) -> Generator[Source]:
    """Open a file.

    Raises:
        GatecastError: It can not be read as series.
    """
    raw = read_file(_read(path), format_of(path), max_rows=_MAX_ROWS)
    content = read_series(raw, roles, freq, max_steps=_MAX_ROWS)
    series: Chunk = list(content.series)
    series += [RefusedSeries(item_id, "it has no value") for item_id in content.without_values]
    yield Source(content.freq, len(series), iter(series))


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        InvalidInputError: It can not be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidInputError(f"can not read {path}: {error.strerror}") from error


def format_of(path: Path) -> FileFormat:
    """Return what a file is, by its name.

    Raises:
        InvalidInputError: Its suffix is not known.
    """
    file_format = _FORMATS.get(path.suffix.lower())
    if file_format is None:
        known = ", ".join(_FORMATS)
        raise InvalidInputError(f"the name of {path.name} must end in one of {known}")
    return file_format


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"can not read {path}: {error.strerror}") from error
