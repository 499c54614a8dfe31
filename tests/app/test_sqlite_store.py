"""Streams in their SQLite file, beyond what every store does."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.errors import StartupError, StreamLostError, StreamStoreError
from app.gateway.sqlite_store import SqliteStore
from app.gateway.stream_covariates import StreamCovariates
from tests.stream_stores import KEY, TTL_S, opened, stream


def store(path: Path | None = None, *, is_durable: bool = True) -> SqliteStore:
    return SqliteStore(path, is_durable=is_durable, ttl_s=TTL_S, max_streams=10)


async def test_store_from_before_covariates_is_read_on(tmp_path: Path) -> None:
    path = tmp_path / "streams"
    async with opened(store(path)) as first:
        await first.put(KEY, replace(stream(1, 2), covariates=StreamCovariates()))
    with closing(sqlite3.connect(path)) as old, old:
        old.execute("ALTER TABLE streams DROP COLUMN covariates")
    async with opened(store(path)) as reopened:
        before = await reopened.get(KEY)
        assert before.covariates == StreamCovariates()
        after = replace(before, step=3, tail=np.append(before.tail, np.float32(3)))
        await reopened.append(KEY, before, after, digest=b"", answer=b"")
        assert (await reopened.get(KEY)).step == 3


async def test_store_that_ends_with_the_service_takes_no_stream_for_unknown() -> None:
    async with opened(store(is_durable=False)) as kept:
        with pytest.raises(StreamLostError, match="earlier run"):
            await kept.get(KEY)


def test_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "streams"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(StartupError, match="GATECAST_STREAM_STORE: can not open streams"):
        store(path)


async def test_store_that_does_not_answer_is_no_lost_stream(tmp_path: Path) -> None:
    path = tmp_path / "streams"
    async with opened(store(path)) as kept:
        await kept.put(KEY, stream(1))
        with closing(sqlite3.connect(path)) as other, other:
            other.execute("DROP TABLE answers")
        with pytest.raises(StreamStoreError):
            await kept.find_answer(KEY, 1)
