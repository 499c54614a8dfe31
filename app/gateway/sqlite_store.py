"""Keeps streams in one SQLite file that all gateways of a service share."""

import asyncio
import sqlite3
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from typing_extensions import override

from app.errors import (
    StartupError,
    StreamConflictError,
    StreamLimitError,
    StreamLostError,
    StreamNotFoundError,
    StreamStoreError,
)
from app.gateway.stream_covariates import StreamCovariates
from app.gateway.stream_store import (
    MAX_ANSWERS,
    STREAM_MOVED,
    UNKNOWN_STREAM,
    Stream,
    StreamKey,
    StreamStore,
    limit_message,
)

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


_Result = TypeVar("_Result")


class SqliteStore(StreamStore):
    """Keeps streams in a file or in memory, by a thread of its own.

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
        self._ttl_s = ttl_s
        self._is_durable = is_durable
        self._max_streams = max_streams
        self._clock = clock
        self._executor = ThreadPoolExecutor(1, "streams")
        self._connection = _open(path)
        self._close = weakref.finalize(self, self._connection.close)

    @override
    async def get(self, key: StreamKey) -> Stream:
        return await self._transact(lambda sql: self._get(sql, key))

    @override
    async def put(self, key: StreamKey, stream: Stream) -> bool:
        return await self._transact(lambda sql: self._put(sql, key, stream))

    @override
    async def append(
        self, key: StreamKey, before: Stream, after: Stream, *, digest: bytes, answer: bytes
    ) -> None:
        def move_on(sql: sqlite3.Connection) -> None:
            self._move(sql, key, before, after)
            sql.execute(_ANSWER, (*_columns_of(key), before.step, digest, answer))
            sql.execute(_FORGET_ANSWERS, (*_columns_of(key), MAX_ANSWERS))

        await self._transact(move_on)

    @override
    async def find_answer(self, key: StreamKey, step: int) -> tuple[bytes, bytes] | None:
        def find(sql: sqlite3.Connection) -> tuple[bytes, bytes] | None:
            row: tuple[bytes, bytes] | None
            row = sql.execute(_FIND_ANSWER, (*_columns_of(key), step)).fetchone()
            return row

        return await self._transact(find)

    @override
    async def read_page(
        self, owner: str, model_name: str, *, after: str, limit: int
    ) -> list[tuple[str, Stream]]:
        oldest = self._clock() - self._ttl_s
        rows = await self._transact(
            lambda sql: sql.execute(_LIST, (owner, model_name, after, oldest, limit)).fetchall()
        )
        return [(row[0], _to_stream(row[1:])) for row in rows]

    @override
    async def delete(self, key: StreamKey) -> None:
        def delete(sql: sqlite3.Connection) -> None:
            self._get(sql, key)
            _delete(sql, key)

        await self._transact(delete)

    @override
    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._executor, self._close)
        self._executor.shutdown(wait=False)

    async def _transact(self, use: Callable[[sqlite3.Connection], _Result]) -> _Result:
        def run() -> _Result:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                with self._connection:
                    return use(self._connection)
            except sqlite3.OperationalError as error:
                raise StreamStoreError(f"the store of streams does not answer: {error}") from error
            except sqlite3.DatabaseError as error:
                raise StreamLostError("the store of streams is damaged") from error

        return await asyncio.get_running_loop().run_in_executor(self._executor, run)

    def _get(self, sql: sqlite3.Connection, key: StreamKey) -> Stream:
        row = _row_of(sql, key)
        if row is None and self._is_durable:
            raise StreamNotFoundError(UNKNOWN_STREAM)
        if row is None:
            raise StreamLostError(
                "there is no such stream here: it never was, or ended with an earlier run of the"
                " service; PUT it with its history"
            )
        if row[1] is None or row[4] <= self._clock() - self._ttl_s:
            raise StreamLostError(
                f"nothing was added to the stream for {self._ttl_s:g} s and it is lost; PUT it with"
                " its history"
            )
        return _to_stream(row)

    def _put(self, sql: sqlite3.Connection, key: StreamKey, stream: Stream) -> bool:
        self._expire(sql)
        row = _row_of(sql, key)
        is_new = row is None or row[1] is None
        if is_new and _count(sql, key.owner) >= self._max_streams:
            raise StreamLimitError(limit_message(self._max_streams))
        _delete(sql, key)
        sql.execute(
            _PUT,
            (*_columns_of(key), stream.step, stream.tail.tobytes(), stream.start, stream.freq,
             self._clock(), stream.covariates.to_bytes()),
        )  # fmt: skip
        return is_new

    def _move(self, sql: sqlite3.Connection, key: StreamKey, before: Stream, after: Stream) -> None:
        moved = sql.execute(
            _MOVE,
            (after.step, after.tail.tobytes(), after.covariates.to_bytes(), self._clock(),
             *_columns_of(key), before.step, before.tail.tobytes(), before.covariates.to_bytes()),
        )  # fmt: skip
        if not moved.rowcount:
            raise StreamConflictError(STREAM_MOVED)

    def _expire(self, sql: sqlite3.Connection) -> None:
        """Empty the streams that expired, and forget those that did so long ago."""
        now = self._clock()
        for statement in _EXPIRE:
            sql.execute(statement, (now - self._ttl_s,))
        sql.execute(_FORGET, (now - 2 * self._ttl_s,))


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


def _columns_of(key: StreamKey) -> tuple[str, str, str]:
    return key.owner, key.model_name, key.stream_id


def _row_of(sql: sqlite3.Connection, key: StreamKey) -> _Row | None:
    row: _Row | None = sql.execute(_READ, _columns_of(key)).fetchone()
    return row


def _count(sql: sqlite3.Connection, owner: str) -> int:
    return int(sql.execute(_COUNT, (owner,)).fetchone()[0])


def _delete(sql: sqlite3.Connection, key: StreamKey) -> None:
    for statement in _DELETE:
        sql.execute(statement, _columns_of(key))


def _to_stream(row: _Row) -> Stream:
    step, tail, start, freq, updated_at, covariates = row
    values = np.frombuffer(tail or b"", np.float32)
    known = StreamCovariates.from_bytes(covariates)
    return Stream(step, values, start, freq, known, updated_at)
