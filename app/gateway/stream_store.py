"""Keeps streams in one SQLite file that all gateways of a service share.

A stream is the tail of its values, their number and its last answers. What it was is remembered
for a while after it expired, so that nobody takes it for one that never was.
"""

import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.errors import (
    OverloadedError,
    StartupError,
    StreamConflictError,
    StreamLimitError,
    StreamLostError,
    StreamNotFoundError,
)
from app.gateway.stream_covariates import StreamCovariates

_MAX_ANSWERS = 8
_BUSY_TIMEOUT_S = 5.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS streams (
    owner TEXT, model_name TEXT, stream_id TEXT, step INTEGER NOT NULL, tail BLOB, start TEXT,
    freq TEXT, updated_at REAL NOT NULL, covariates BLOB, PRIMARY KEY (owner, model_name, stream_id)
);
CREATE INDEX IF NOT EXISTS streams_by_age ON streams (updated_at);
CREATE TABLE IF NOT EXISTS answers (
    owner TEXT, model_name TEXT, stream_id TEXT, step INTEGER, digest BLOB NOT NULL,
    answer BLOB NOT NULL, PRIMARY KEY (owner, model_name, stream_id, step)
);
"""
_COLUMNS = "SELECT name FROM pragma_table_info('streams')"
_ADD_COVARIATES = "ALTER TABLE streams ADD COLUMN covariates BLOB"
_READ = """
SELECT step, tail, start, freq, updated_at, covariates FROM streams
WHERE owner = ? AND model_name = ? AND stream_id = ?
"""
_LIST = """
SELECT stream_id, step, tail, start, freq, updated_at, covariates FROM streams
WHERE owner = ? AND model_name = ? AND stream_id > ? AND tail IS NOT NULL AND updated_at > ?
ORDER BY stream_id LIMIT ?
"""
_COUNT = "SELECT count(*) FROM streams WHERE owner = ? AND tail IS NOT NULL"
_PUT = "INSERT INTO streams VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_MOVE = """
UPDATE streams SET step = ?, tail = ?, covariates = ?, updated_at = ?
WHERE owner = ? AND model_name = ? AND stream_id = ? AND step = ? AND tail = ?
    AND covariates IS ?
"""
_ANSWER = "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?)"
_FIND_ANSWER = """
SELECT digest, answer FROM answers
WHERE owner = ? AND model_name = ? AND stream_id = ? AND step = ?
"""
_FORGET_ANSWERS = """
DELETE FROM answers WHERE owner = ?1 AND model_name = ?2 AND stream_id = ?3 AND step NOT IN (
    SELECT step FROM answers WHERE owner = ?1 AND model_name = ?2 AND stream_id = ?3
    ORDER BY step DESC LIMIT ?4
)
"""
_DELETE = (
    "DELETE FROM streams WHERE owner = ? AND model_name = ? AND stream_id = ?",
    "DELETE FROM answers WHERE owner = ? AND model_name = ? AND stream_id = ?",
)
_EXPIRE = (
    """
    DELETE FROM answers WHERE (owner, model_name, stream_id) IN (
        SELECT owner, model_name, stream_id FROM streams WHERE updated_at <= ?
    )
    """,
    "UPDATE streams SET tail = NULL, covariates = NULL WHERE tail IS NOT NULL AND updated_at <= ?",
)
_FORGET = "DELETE FROM streams WHERE updated_at <= ?"


@dataclass(frozen=True, slots=True)
class StreamKey:
    """Whose stream it is, for which model, and its name."""

    owner: str
    model_name: str
    stream_id: str

    def to_row(self) -> tuple[str, str, str]:
        """Return it as the first columns of a row."""
        return self.owner, self.model_name, self.stream_id


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream.

    Attributes:
        step: Values so far.
        tail: The newest of them, ``(num_kept,)``, NaN where missing.
        start: Time stamp of the very first value, as it was given.
        freq: Their spacing, as it was given.
        covariates: Of the values in the tail, and ahead of them.
        updated_at: Seconds since 1970.
    """

    step: int
    tail: NDArray[np.float32]
    start: str | None
    freq: str | None
    covariates: StreamCovariates = field(default_factory=StreamCovariates)
    updated_at: float = 0.0

    @property
    def num_dropped(self) -> int:
        """Values before the tail."""
        return self.step - len(self.tail)


class StreamStore:
    """All streams of a service; calls block, from any thread, one at a time.

    Args:
        path: The file; None keeps streams in this process alone.
        is_durable: Whether the file outlives the service: a stream that it does not know never was.
        ttl_s: A stream to which nothing is added for so long expires.
        max_streams: Most streams of one owner.
        clock: Seconds since 1970.

    Raises:
        StartupError: The file can not be opened, or is no SQLite file.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        is_durable: bool,
        ttl_s: float,
        max_streams: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.ttl_s = ttl_s
        self._is_durable = is_durable
        self._max_streams = max_streams
        self._clock = clock
        self._lock = threading.Lock()
        self._connection = _open(path)
        self.close = weakref.finalize(self, self._connection.close)
        """Closes the file; what is not closed is so with this object."""

    def get(self, key: StreamKey) -> Stream:
        """Return a stream.

        Raises:
            StreamNotFoundError: There is none of that name.
            StreamLostError: There was one, or there may have been.
        """
        with self._transaction() as sql:
            return self._get(sql, key)

    def put(self, key: StreamKey, stream: Stream) -> bool:
        """Begin a stream, in place of one of the same name; return whether there was none.

        Raises:
            StreamLimitError: The owner has as many as it may have.
        """
        with self._transaction() as sql:
            self._expire(sql)
            row = _row_of(sql, key)
            is_new = row is None or row[1] is None
            if is_new and _count(sql, key.owner) >= self._max_streams:
                raise StreamLimitError(f"an API key may have at most {self._max_streams} streams")
            _delete(sql, key)
            sql.execute(
                _PUT,
                (*key.to_row(), stream.step, stream.tail.tobytes(), stream.start, stream.freq,
                 self._clock(), stream.covariates.to_bytes()),
            )  # fmt: skip
            return is_new

    def append(
        self, key: StreamKey, before: Stream, after: Stream, *, digest: bytes, answer: bytes
    ) -> None:
        """Move a stream on, with the answer that was made.

        Args:
            key: The stream.
            before: As it was read.
            after: As it is to be.
            digest: Of what was asked.
            answer: What was answered.

        Raises:
            StreamConflictError: It was moved on by another request meanwhile.
        """
        with self._transaction() as sql:
            moved = sql.execute(
                _MOVE,
                (after.step, after.tail.tobytes(), after.covariates.to_bytes(), self._clock(),
                 *key.to_row(), before.step, before.tail.tobytes(), before.covariates.to_bytes()),
            )  # fmt: skip
            if not moved.rowcount:
                raise StreamConflictError("the stream was changed by another request meanwhile")
            sql.execute(_ANSWER, (*key.to_row(), before.step, digest, answer))
            sql.execute(_FORGET_ANSWERS, (*key.to_row(), _MAX_ANSWERS))

    def find_answer(self, key: StreamKey, step: int) -> tuple[bytes, bytes] | None:
        """Return the digest of what was asked at ``step`` and the answer, if they are kept."""
        with self._transaction() as sql:
            found = sql.execute(_FIND_ANSWER, (*key.to_row(), step))
            row: tuple[bytes, bytes] | None = found.fetchone()
            return row

    def read_page(
        self, owner: str, model_name: str, *, after: str, limit: int
    ) -> list[tuple[str, Stream]]:
        """Return streams of one owner and model, by id, those behind ``after``."""
        with self._transaction() as sql:
            oldest = self._clock() - self.ttl_s
            rows = sql.execute(_LIST, (owner, model_name, after, oldest, limit)).fetchall()
            return [(row[0], _to_stream(row[1:])) for row in rows]

    def delete(self, key: StreamKey) -> None:
        """Forget a stream, as if it had never been.

        Raises:
            StreamNotFoundError: There is none of that name.
            StreamLostError: There was one, or there may have been.
        """
        with self._transaction() as sql:
            self._get(sql, key)
            _delete(sql, key)

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                with self._connection:
                    yield self._connection
            except sqlite3.OperationalError as error:
                raise OverloadedError(f"the store of streams does not answer: {error}") from error
            except sqlite3.DatabaseError as error:
                raise StreamLostError("the store of streams is damaged") from error

    def _get(self, sql: sqlite3.Connection, key: StreamKey) -> Stream:
        row = _row_of(sql, key)
        if row is None and self._is_durable:
            raise StreamNotFoundError("there is no such stream; PUT it with its history")
        if row is None:
            raise StreamLostError(
                "there is no such stream here: it never was, or ended with an earlier run of the"
                " service; PUT it with its history"
            )
        if row[1] is None or row[4] <= self._clock() - self.ttl_s:
            raise StreamLostError(
                f"nothing was added to the stream for {self.ttl_s:g} s and it is lost; PUT it with"
                " its history"
            )
        return _to_stream(row)

    def _expire(self, sql: sqlite3.Connection) -> None:
        """Empty the streams that expired, and forget those that did so long ago."""
        now = self._clock()
        for statement in _EXPIRE:
            sql.execute(statement, (now - self.ttl_s,))
        sql.execute(_FORGET, (now - 2 * self.ttl_s,))


_Row = tuple[int, bytes | None, str | None, str | None, float, bytes | None]


def _open(path: Path | None) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(
            ":memory:" if path is None else path,
            timeout=_BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
        )
        # In WAL mode a commit outlives the process; a power cut may take the last ones, which
        # callers notice by their step numbers.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(_SCHEMA)
        if ("covariates",) not in connection.execute(_COLUMNS).fetchall():
            connection.execute(_ADD_COVARIATES)  # a store from before streams had any
    except sqlite3.Error as error:
        name = "" if path is None else f" {path.name}"
        raise StartupError(f"GATECAST_STREAM_STORE: can not open{name}: {error}") from error
    return connection


def _row_of(sql: sqlite3.Connection, key: StreamKey) -> _Row | None:
    row: _Row | None = sql.execute(_READ, key.to_row()).fetchone()
    return row


def _count(sql: sqlite3.Connection, owner: str) -> int:
    return int(sql.execute(_COUNT, (owner,)).fetchone()[0])


def _delete(sql: sqlite3.Connection, key: StreamKey) -> None:
    for statement in _DELETE:
        sql.execute(statement, key.to_row())


def _to_stream(row: _Row) -> Stream:
    step, tail, start, freq, updated_at, covariates = row
    values = np.frombuffer(tail or b"", np.float32)
    known = StreamCovariates.from_bytes(covariates)
    return Stream(step, values, start, freq, known, updated_at)
