"""Text of any encoding, read piece by piece; what is wrong in it has a row and a byte."""

import codecs
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from app.errors import InvalidInputError, MalformedBodyError
from app.files.raw import PIECE_BYTES, Source, open_bytes
from app.files.storing import storing

_BYTE_ORDER_MARKS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_PARQUET_MAGIC = b"PAR1"
_ADVICE = (
    "save the file as UTF-8, or name its encoding, as in "
    "`Content-Type: text/csv; charset=windows-1252`"
)


class Utf8Text:
    """A text file in UTF-8; one in another encoding is written anew beside it.

    Raises:
        MalformedBodyError: It is empty, no text, or not in that encoding.
        InvalidInputError: The encoding is not known.
        StorageError: The disk refuses what is written anew.
    """

    def __init__(self, source: Source, encoding: str | None) -> None:
        start = _read_start(source)
        known = [pair for pair in _BYTE_ORDER_MARKS if start.startswith(pair[0])]
        self._mark, named = known[0] if known else (b"", encoding or "utf-8")
        self._folder: TemporaryDirectory[str] | None = None
        if named.lower() not in {"utf-8", "utf8"}:
            source, self._mark = self._to_utf8(source, named), b""
            start = _read_start(source)
        self.source = source
        self.start = start.removeprefix(self._mark)
        self._check_zero_bytes(named)

    def _check_zero_bytes(self, encoding: str) -> None:
        if self.start.startswith(_PARQUET_MAGIC):
            raise MalformedBodyError("this is a Parquet file, no text")
        if b"\0" in self.start:
            row = self.start[: self.start.index(b"\0")].count(b"\n") + 1
            raise MalformedBodyError(
                f"row {row} holds a zero byte: this is no text file in {encoding}"
            )

    def check(self) -> None:
        """Read all of it.

        Raises:
            MalformedBodyError: It is not UTF-8 somewhere.
        """
        with open_bytes(self.source) as file:
            for _ in decode_pieces(file, "utf-8"):
                pass

    def _to_utf8(self, source: Source, encoding: str) -> Source:
        with open_bytes(source) as file:
            texts = decode_pieces(file, encoding)
            if isinstance(source, bytes):
                return b"".join(text.encode() for text in texts)
            try:
                return self._write(texts)
            except BaseException:
                self.close()
                raise

    def _write(self, texts: Iterator[str]) -> Path:
        with storing("the text of the file"):
            self._folder = TemporaryDirectory(prefix="gatecast-")
            path = Path(self._folder.name) / "utf-8"
            with path.open("wb") as file:
                file.writelines(text.encode() for text in texts)
        return path

    def close(self) -> None:
        """Delete what was written."""
        if self._folder is not None:
            self._folder.cleanup()


def decode_pieces(file: BinaryIO, encoding: str) -> Iterator[str]:
    """Decode a file from where it stands.

    Raises:
        MalformedBodyError: A byte is not in that encoding.
        InvalidInputError: The encoding is not known, or none of text.
    """
    decoder = _make_decoder(encoding)
    num_bytes, num_lines, is_last = 0, 0, False
    while not is_last:
        piece = file.read(PIECE_BYTES)
        is_last = len(piece) < PIECE_BYTES
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(piece, is_last)
            text.encode()
        except UnicodeDecodeError as error:
            start = max(0, error.start - pending)
            row = num_lines + piece[:start].count(b"\n") + 1
            raise MalformedBodyError(
                f"row {row}: byte {num_bytes + start} is not {encoding.upper()}; {_ADVICE}"
            ) from error
        except ValueError as error:  # as some codecs do that are no encodings of text
            raise _unknown_encoding() from error
        num_bytes, num_lines = num_bytes + len(piece), num_lines + piece.count(b"\n")
        yield text


def _make_decoder(encoding: str) -> codecs.IncrementalDecoder:
    try:
        b"\n\n\n\n".decode(encoding)
        return codecs.getincrementaldecoder(encoding)()
    except (LookupError, ValueError) as error:  # also codecs that are no encodings of text
        raise _unknown_encoding() from error


def _unknown_encoding() -> InvalidInputError:
    return InvalidInputError("charset is no encoding that is known here")


def _read_start(source: Source) -> bytes:
    with open_bytes(source) as file:
        start = file.read(2**20)
    if not start.strip():
        raise MalformedBodyError("the file is empty")
    return start
