"""The file of a bulk run: its digest, and its series, some at a time."""

import hashlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from app.artifact.card import Card
from app.bulk.options import BulkOptions
from app.errors import InvalidInputError
from app.files.columns import Covariates
from app.files.raw import FileFormat
from app.files.series import FileSeries, RefusedSeries
from app.files.streaming import SeriesOptions, open_series

_FORMATS: dict[str, FileFormat] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".arrows": "arrow",
}

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
def open_source(path: Path, options: BulkOptions, card: Card) -> Generator[Source]:
    """Open a file; series with something wrong in them come as ``RefusedSeries``.

    Args:
        path: The file; its suffix says which format.
        options: How it is to be read.
        card: Names the columns that are covariates.

    Raises:
        GatecastError: It can not be read as series.
    """
    covariates = Covariates(
        past=card.past_covariates,
        future=card.future_covariates,
        static=card.static_covariates,
        categories=card.static_categories,
        num_ahead=options.horizon or card.horizon,
    )
    reading = SeriesOptions(
        roles=options.roles,
        covariates=covariates,
        freq=options.freq,
        limits=options.limits,
        mode="lenient",
    )
    with open_series(path, format_of(path), reading) as stream:
        yield Source(stream.freq, stream.count(), iter(stream))


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
