"""What a bulk run has done so far: one SQLite file, which holds the rows too.

A chunk's rows and the fact that it is done are one transaction, so that nothing on disk can be out
of step, whenever the process is killed. A power cut may take back the latest chunks, which are then
forecast again; it never leaves half of one.
"""

import json
import sqlite3
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Self

from app.errors import BulkRunError

_FILE = "journal.sqlite"
_TABLES = """
CREATE TABLE IF NOT EXISTS run (fingerprint TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS chunks (
  number INTEGER PRIMARY KEY, num_series INTEGER NOT NULL, num_refused INTEGER NOT NULL,
  num_rows INTEGER NOT NULL, has_times INTEGER NOT NULL, rows BLOB NOT NULL, refusals BLOB NOT NULL
);
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishedChunk:
    """One chunk that is done.

    Attributes:
        number: Its place in the file, from 0.
        num_series: Its series, the refused ones too.
        has_times: Whether a stamp is not a midnight.
        rows: Forecasts, as ``app.bulk.tables`` writes them.
        refusals: JSON Lines, one for each series that could not be forecast.
    """

    number: int
    num_series: int
    num_refused: int
    num_rows: int
    has_times: bool
    rows: bytes
    refusals: bytes


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the chunks that are done."""

    num_series: int
    num_refused: int
    num_rows: int
    has_times: bool


class Journal:
    """The journal in one folder; only one process at a time can have it open.

    Every call raises ``BulkRunError`` where the disk is full, or broken; its cause is what the disk
    said.

    Args:
        folder: Made if it is not there.
        fingerprint: All that the rows follow from. Chunks of another fingerprint are thrown away.

    Raises:
        BulkRunError: Another process has it open, or it can not be written.
    """

    def __init__(self, folder: Path, fingerprint: Mapping[str, object]) -> None:
        self.changed: list[str] = []
        """What is not as it was when the chunks that were thrown away were made."""
        self._lock = threading.Lock()
        self._path = folder / _FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._database = self._open()
        except OSError as error:
            raise BulkRunError(f"can not make {folder}: {error.strerror}") from error
        try:
            self._begin(json.loads(json.dumps(fingerprint)))
        except sqlite3.Error as error:
            self._database.close()
            raise self._failure(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._database.close()

    def numbers(self) -> set[int]:
        """Return the numbers of the chunks that are done."""
        with self._using() as database:
            return {number for (number,) in database.execute("SELECT number FROM chunks")}

    def totals(self) -> Totals:
        """Sum up."""
        with self._using() as database:
            row = database.execute(
                "SELECT COALESCE(SUM(num_series), 0), COALESCE(SUM(num_refused), 0),"
                " COALESCE(SUM(num_rows), 0), COALESCE(MAX(has_times), 0) FROM chunks"
            ).fetchone()
        return Totals(row[0], row[1], row[2], bool(row[3]))

    def record(self, chunk: FinishedChunk) -> None:
        """Keep a chunk.

        Raises:
            BulkRunError: The disk is full, or broken.
        """
        places = ", ".join("?" * len(fields(chunk)))
        with self._using() as database, database:
            database.execute(f"INSERT INTO chunks VALUES ({places})", astuple(chunk))  # noqa: S608 - our own text

    def rows(self) -> Iterator[bytes]:
        """Return the rows of each chunk, in order."""
        return self._blobs("rows")

    def refusals(self) -> Iterator[bytes]:
        """Return the refusals of each chunk, in order."""
        return self._blobs("refusals")

    def _blobs(self, column: str) -> Iterator[bytes]:
        for number in sorted(self.numbers()):
            with self._using() as database:
                query = f"SELECT {column} FROM chunks WHERE number = ?"  # noqa: S608 - our own text
                (blob,) = database.execute(query, (number,)).fetchone()
            yield blob

    @contextmanager
    def _using(self) -> Generator[sqlite3.Connection]:
        try:
            with self._lock:
                yield self._database
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def _open(self) -> sqlite3.Connection:
        try:
            return sqlite3.connect(self._path, timeout=0, check_same_thread=False)
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def _begin(self, fingerprint: Mapping[str, object]) -> None:
        database = self._database
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(_TABLES)
        with database:
            found = database.execute("SELECT fingerprint FROM run").fetchone()
            before = json.loads(found[0]) if found else fingerprint
            keys = sorted(before.keys() | fingerprint.keys())
            self.changed = [key for key in keys if before.get(key) != fingerprint.get(key)]
            if self.changed:
                database.execute("DELETE FROM chunks")
            database.execute("DELETE FROM run")
            database.execute("INSERT INTO run VALUES (?)", (json.dumps(fingerprint),))

    def _failure(self, error: sqlite3.Error) -> BulkRunError:
        if "locked" in str(error):
            return BulkRunError(f"another process is at this run already: {self._path} is in use")
        return BulkRunError(f"{self._path}: {error}")
