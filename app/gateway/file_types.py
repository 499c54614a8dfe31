"""Media types of files, and stamps as text."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from app.errors import UnsupportedMediaTypeError
from app.files.raw import FileFormat

MEDIA_TYPES: dict[str, FileFormat] = {
    "text/csv": "csv",
    "application/jsonl": "jsonl",
    "application/x-ndjson": "jsonl",
    "application/vnd.apache.parquet": "parquet",
    "application/vnd.apache.arrow.stream": "arrow",
}

BYTES_CONTENT: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
"""What the API's description says of a body that is a file."""


def is_file(content_type: str) -> bool:
    """Whether a body of that type is read as a file."""
    return content_type.partition(";")[0].strip().lower() in MEDIA_TYPES


def format_of(content_type: str) -> tuple[FileFormat, str | None]:
    """Return what a file is, and the encoding that its sender names.

    Raises:
        UnsupportedMediaTypeError: It is no file that can be read.
    """
    media_type, *parameters = (part.strip() for part in content_type.split(";"))
    file_format = MEDIA_TYPES.get(media_type.lower())
    if file_format is None:
        raise UnsupportedMediaTypeError(f"Content-Type must be {' or '.join(MEDIA_TYPES)}")
    charsets = [
        p.partition("=")[2].strip('"') for p in parameters if p.lower().startswith("charset=")
    ]
    return file_format, charsets[0] if charsets else None


def format_stamps_of(stamps: NDArray[np.datetime64]) -> list[str]:
    """Write dates where all stamps are midnights, otherwise dates and times.

    All have microseconds where one is no whole second.
    """
    texts: list[str] = np.datetime_as_string(stamps, unit=_unit_of(stamps)).tolist()
    return texts


def _unit_of(stamps: NDArray[np.datetime64]) -> Literal["D", "s", "us"]:
    if (stamps == stamps.astype("M8[D]")).all():
        return "D"
    return "s" if (stamps == stamps.astype("M8[s]")).all() else "us"
