"""Opens a file of any format that is known here."""

from app.files.arrow_file import ArrowFile
from app.files.csv_file import CsvFile
from app.files.json_lines_file import JsonLinesFile
from app.files.parquet_file import ParquetFile
from app.files.raw import FileFormat, FileLimits, RawFile, Source


def open_file(
    source: Source, file_format: FileFormat, *, limits: FileLimits, encoding: str | None = None
) -> RawFile:
    """Open a file; the caller closes it.

    Args:
        source: The file.
        file_format: What it is.
        limits: What it may hold.
        encoding: Encoding of a CSV file that has no byte order mark; UTF-8 if None.

    Raises:
        MalformedBodyError: It is not of that format, or cut off.
        InvalidInputError: A row is wrong, or a column is there twice.
        PayloadTooLargeError: It has too many rows or columns, or is too large when decompressed.
    """
    if file_format == "csv":
        return CsvFile(source, encoding)
    if file_format == "jsonl":
        return JsonLinesFile(source)
    if file_format == "parquet":
        return ParquetFile(source, limits)
    return ArrowFile(source, limits)
