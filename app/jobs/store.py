"""The journal of jobs: one SQLite file that all gateways and the worker share.

It is committed in full before anybody is told of a change. There is no write-ahead log: engines
before 3.51.3 can lose commits with one (https://sqlite.org/wal.html#walresetbug), which the Python
of many systems still brings, and a few writes a second do not need it.
"""

import contextlib
import sqlite3
import time
from collections.abc import Callable, Generator
from pathlib import Path

import msgspec

from app.errors import (
    IdempotencyKeyReusedError,
    JobNotFoundError,
    StartupError,
    StorageError,
    TooManyJobsError,
)
from app.jobs.job import Job, JobOptions, JobState, NewJob, Progress, WebhookState

_VERSION = 1
_BUSY_TIMEOUT_S = 10.0
_RETRY_AFTER_S = 60
_MAX_FRUITLESS = 10
_FRUITLESS = f"the job was begun {_MAX_FRUITLESS} times, and each time lost before it got further"
_SCHEMA = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'queued',
    options TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    idempotency_key TEXT,
    created_at REAL NOT NULL,
    started_at REAL,
    finished_at REAL,
    num_done INTEGER NOT NULL DEFAULT 0,
    num_refused INTEGER NOT NULL DEFAULT 0,
    num_series INTEGER,
    num_fruitless INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '',
    webhook_url TEXT,
    webhook_state TEXT NOT NULL DEFAULT '',
    webhook_attempts INTEGER NOT NULL DEFAULT 0,
    webhook_due_at REAL,
    is_deleted INTEGER NOT NULL DEFAULT 0,
    UNIQUE (owner, idempotency_key)
);
CREATE INDEX jobs_by_owner ON jobs (owner, number);
CREATE INDEX jobs_by_state ON jobs (state);
"""
_NEXT = """
SELECT * FROM jobs WHERE state IN ('running', 'queued') AND NOT is_deleted
ORDER BY state = 'queued',
         (SELECT max(started_at) FROM jobs AS earlier WHERE earlier.owner = jobs.owner),
         number
LIMIT 1
"""
"""The job that a lost worker left, else the oldest one of the owner who waits longest."""

_CLAIM = """
UPDATE jobs SET state = 'running', num_fruitless = num_fruitless + :is_counted,
    started_at = coalesce(started_at, :now)
WHERE number = :number
"""
_HIDE_ONE = """
UPDATE jobs SET is_deleted = 1, idempotency_key = NULL, webhook_state = '' WHERE job_id = ?
"""
"""Hides a job, whose idempotency key is free again."""
_HIDE_OLDER = """
UPDATE jobs SET is_deleted = 1, idempotency_key = NULL, webhook_state = '' WHERE finished_at < ?
"""
_PROGRESS = """
UPDATE jobs SET num_done = :num_done, num_refused = :num_refused, num_series = :num_series,
    num_fruitless = iif(:num_done > num_done, 0, num_fruitless)
WHERE job_id = :job_id AND state = 'running' AND NOT is_deleted
"""
_FINISH = """
UPDATE jobs SET state = :state, error = :error, finished_at = :now, webhook_due_at = :now
WHERE job_id = :job_id
  AND (state = 'running' OR (state = 'queued' AND :state = 'cancelled')) AND NOT is_deleted
"""


class JobStore:
    """Keeps the jobs of all API keys.

    Every call is one transaction on a connection of its own, so it may be made on any thread. A
    call waits for the disk: an event loop should have a thread make it.

    Args:
        directory: Where the journal is, or will be made.
        max_unfinished: Most jobs of one owner that may wait or run.
        clock: Seconds since 1970.

    Raises:
        StartupError: The folder can not be used.
    """

    def __init__(
        self, directory: Path, *, max_unfinished: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._path = directory / "jobs.sqlite"
        self._max_unfinished = max_unfinished
        self._clock = clock
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._create_tables()
        except (OSError, StorageError) as error:
            raise StartupError(f"GATECAST_JOBS_DIRECTORY: can not be used: {error}") from error

    def add(self, new: NewJob) -> Job:
        """Queue a job; one that was made before with the same idempotency key is returned instead.

        Raises:
            IdempotencyKeyReusedError: That key was used for another file or other options.
            TooManyJobsError: The owner has too many jobs that wait or run.
        """
        with self._transaction() as connection:
            if earlier := _find_repeated(connection, new):
                return earlier
            self._check_room(connection, new.owner)
            connection.execute(
                "INSERT INTO jobs (job_id, owner, options, fingerprint, idempotency_key,"
                " created_at, webhook_url, webhook_state) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    new.job_id,
                    new.owner,
                    msgspec.json.encode(new.options).decode(),
                    new.fingerprint,
                    new.idempotency_key,
                    self._clock(),
                    new.webhook_url,
                    "pending" if new.webhook_url else "",
                ),
            )
            return _find(connection, new.job_id, new.owner)

    def check_room(self, owner: str, idempotency_key: str | None) -> None:
        """Tell whether an owner may have another job, before a file is read for it.

        Raises:
            TooManyJobsError: There are too many already, and none of them by that key.
        """
        with self._transaction() as connection:
            if _find_by_key(connection, owner, idempotency_key) is None:
                self._check_room(connection, owner)

    def find(self, job_id: str, owner: str) -> Job:
        """Return one job.

        Raises:
            JobNotFoundError: The owner has no such job.
        """
        with self._transaction() as connection:
            return _find(connection, job_id, owner)

    def find_all(self, owner: str, *, limit: int, before: str | None = None) -> list[Job]:
        """Return the newest jobs of an owner; ``before`` leaves out that one and all newer ones."""
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT * FROM jobs WHERE owner = :owner AND NOT is_deleted AND (:before IS NULL OR"
                " number < (SELECT number FROM jobs WHERE job_id = :before AND owner = :owner))"
                " ORDER BY number DESC LIMIT :limit",
                {"owner": owner, "before": before, "limit": limit},
            )
            return [_to_job(row) for row in rows]

    def cancel(self, job_id: str, owner: str) -> Job:
        """End a job that is not finished; one that is stays as it is.

        Raises:
            JobNotFoundError: The owner has no such job.
        """
        with self._transaction() as connection:
            job = _find(connection, job_id, owner)
            self._finish(connection, job.job_id, "cancelled", "")
            return _find(connection, job_id, owner)

    def delete(self, job_id: str, owner: str) -> None:
        """End a job and hide it; the worker then removes its files and forgets it.

        Raises:
            JobNotFoundError: The owner has no such job.
        """
        with self._transaction() as connection:
            job = _find(connection, job_id, owner)
            self._finish(connection, job.job_id, "cancelled", "")
            connection.execute(_HIDE_ONE, (job_id,))

    def claim(self, put_off: str = "") -> Job | None:
        """Begin the next job, or go on with the one that a lost worker left.

        A job that takes its worker along again and again, with nothing more of it done, fails.

        Args:
            put_off: The job that the caller has claimed before and put off, which took nobody
                along.
        """
        with self._transaction() as connection:
            while row := connection.execute(_NEXT).fetchone():
                is_counted = row["job_id"] != put_off
                if not is_counted or row["num_fruitless"] < _MAX_FRUITLESS:
                    given = {"is_counted": is_counted, "now": self._clock()}
                    connection.execute(_CLAIM, given | {"number": row["number"]})
                    return _find(connection, row["job_id"], row["owner"])
                self._finish(connection, row["job_id"], "failed", _FRUITLESS)
            return None

    def record_progress(self, job_id: str, progress: Progress) -> bool:
        """Note how far a job has come; return whether it is still wanted."""
        with self._transaction() as connection:
            return _record_progress(connection, job_id, progress)

    def finish(self, job_id: str, progress: Progress, *, error: str = "") -> bool:
        """End a running job, failed where there is an error; return whether it was wanted."""
        with self._transaction() as connection:
            _record_progress(connection, job_id, progress)
            return self._finish(connection, job_id, "failed" if error else "succeeded", error)

    def next_webhook(self) -> Job | None:
        """Return a finished job whose owner is to be told now."""
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT * FROM jobs WHERE webhook_state = 'pending' AND webhook_due_at <= ?"
                " ORDER BY webhook_due_at LIMIT 1",
                (self._clock(),),
            ).fetchone()
            return None if row is None else _to_job(row)

    def record_webhook(
        self, job_id: str, state: WebhookState, *, retry_after_s: float = 0.0
    ) -> None:
        """Note what became of telling a job's owner; where it is pending, when to try again."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE jobs SET webhook_state = ?, webhook_attempts = webhook_attempts + 1,"
                " webhook_due_at = ? WHERE job_id = ?",
                (state, self._clock() + retry_after_s, job_id),
            )

    def hide_older(self, seconds: float) -> None:
        """Hide the jobs that finished so long ago."""
        with self._transaction() as connection:
            connection.execute(_HIDE_OLDER, (self._clock() - seconds,))

    def hidden_ids(self) -> list[str]:
        """Return the jobs whose files are to be removed."""
        with self._transaction() as connection:
            rows = connection.execute("SELECT job_id FROM jobs WHERE is_deleted").fetchall()
            return [row["job_id"] for row in rows]

    def ended_states(self) -> dict[str, JobState]:
        """Return the jobs that have ended and are not hidden, each with its state."""
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT job_id, state FROM jobs WHERE finished_at IS NOT NULL AND NOT is_deleted"
            )
            return {row["job_id"]: row["state"] for row in rows}

    def known_ids(self) -> set[str]:
        """Return all jobs, hidden ones too."""
        with self._transaction() as connection:
            return {row["job_id"] for row in connection.execute("SELECT job_id FROM jobs")}

    def forget(self, job_id: str) -> None:
        """Remove a job that is hidden."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM jobs WHERE job_id = ? AND is_deleted", (job_id,))

    def _create_tables(self) -> None:
        with self._transaction() as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version not in {0, _VERSION}:
                raise StartupError(
                    "GATECAST_JOBS_DIRECTORY: the jobs in it were made by another version"
                )
            if version == 0:
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {_VERSION}")

    @contextlib.contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
            with contextlib.closing(connection):
                connection.row_factory = sqlite3.Row
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("BEGIN IMMEDIATE")
                with connection:
                    yield connection
        except sqlite3.Error as error:
            raise StorageError(f"the journal of jobs can not be used: {error}") from error

    def _check_room(self, connection: sqlite3.Connection, owner: str) -> None:
        row = connection.execute(
            "SELECT count(*) FROM jobs WHERE owner = ? AND state IN ('queued', 'running')", (owner,)
        ).fetchone()
        if row[0] >= self._max_unfinished:
            raise TooManyJobsError(
                f"{row[0]} jobs of this API key wait or run already, which is the most allowed",
                _RETRY_AFTER_S,
            )

    def _finish(
        self, connection: sqlite3.Connection, job_id: str, state: JobState, error: str
    ) -> bool:
        given = {"state": state, "error": error, "now": self._clock(), "job_id": job_id}
        return connection.execute(_FINISH, given).rowcount == 1


def _find(connection: sqlite3.Connection, job_id: str, owner: str) -> Job:
    row = connection.execute(
        "SELECT * FROM jobs WHERE job_id = ? AND owner = ? AND NOT is_deleted", (job_id, owner)
    ).fetchone()
    if row is None:
        raise JobNotFoundError("this API key has no such job; GET /v1/jobs lists those it has")
    return _to_job(row)


def _find_by_key(
    connection: sqlite3.Connection, owner: str, idempotency_key: str | None
) -> sqlite3.Row | None:
    row: sqlite3.Row | None = connection.execute(
        "SELECT * FROM jobs WHERE owner = ? AND idempotency_key = ?", (owner, idempotency_key)
    ).fetchone()
    return row


def _find_repeated(connection: sqlite3.Connection, new: NewJob) -> Job | None:
    row = _find_by_key(connection, new.owner, new.idempotency_key)
    if row is None:
        return None
    if row["fingerprint"] != new.fingerprint:
        raise IdempotencyKeyReusedError(
            "this Idempotency-Key was sent before with another file or other options"
        )
    return _to_job(row)


def _record_progress(connection: sqlite3.Connection, job_id: str, progress: Progress) -> bool:
    given = {
        "job_id": job_id,
        "num_done": progress.num_done,
        "num_refused": progress.num_refused,
        "num_series": progress.num_series,
    }
    return connection.execute(_PROGRESS, given).rowcount == 1


def _to_job(row: sqlite3.Row) -> Job:
    return Job(
        job_id=row["job_id"],
        owner=row["owner"],
        state=row["state"],
        options=msgspec.json.decode(row["options"], type=JobOptions),
        progress=Progress(row["num_done"], row["num_refused"], row["num_series"]),
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        error=row["error"],
        webhook_url=row["webhook_url"],
        webhook_state=row["webhook_state"],
        webhook_attempts=row["webhook_attempts"],
    )
