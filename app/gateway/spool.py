"""The body of a request as a file: in memory while it is small, then on disk."""

import contextlib
import io
import os
import tempfile
import threading
from pathlib import Path
from typing import BinaryIO

from app.files.raw import Source
from app.files.storing import storing

_BYTES_IN_MEMORY = 2**20
_KEPT = "the body"


class Spool:
    """Takes a body; whoever has it closes it, also while a thread still writes."""

    def __init__(self) -> None:
        self._file: BinaryIO = io.BytesIO()
        self._path: Path | None = None
        self._lock = threading.Lock()

    def write(self, piece: bytes) -> None:
        """Take the next piece; none is taken any more once this is closed.

        Raises:
            StorageError: The disk is full.
        """
        with self._lock, storing(_KEPT):
            if self._file.closed:
                return
            if self._path is None and self._file.tell() + len(piece) > _BYTES_IN_MEMORY:
                self._move_to_disk()
            self._file.write(piece)

    def _move_to_disk(self) -> None:
        number, path = tempfile.mkstemp(prefix="gatecast-body-")
        memory, self._file, self._path = self._file, os.fdopen(number, "wb"), Path(path)
        memory.seek(0)
        self._file.write(memory.read())

    def source(self) -> Source:
        """Return what was written.

        Raises:
            StorageError: The disk is full.
        """
        if self._path is not None:
            with storing(_KEPT):
                self._file.flush()
            return self._path
        self._file.seek(0)
        return self._file.read()

    def close(self) -> None:
        """Delete what was written."""
        with self._lock:
            with contextlib.suppress(OSError):  # what is not written yet may not fit
                self._file.close()
            if self._path is not None:
                self._path.unlink(missing_ok=True)
