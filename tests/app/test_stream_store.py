"""Streams in their SQLite file."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import (
    OverloadedError,
    StartupError,
    StreamConflictError,
    StreamLimitError,
    StreamLostError,
    StreamNotFoundError,
)
from app.gateway.stream_covariates import StreamCovariates
from app.gateway.stream_store import Stream, StreamKey, StreamStore
from tests.fakes import ManualClock

TTL_S = 100.0
KEY = StreamKey("a", "monthly", "one")
COVARIATES = StreamCovariates({"price": [1.0, None]}, {"holiday": [0.5, 1.0]}, {"region": "south"})


@contextmanager
def store(path: Path | None = None, **changes: Any) -> Iterator[StreamStore]:
    options: dict[str, Any] = {"is_durable": True, "ttl_s": TTL_S, "max_streams": 10}
    opened = StreamStore(path, **options | changes)
    try:
        yield opened
    finally:
        opened.close()


def stream(*values: float) -> Stream:
    return Stream(len(values), np.array(values, np.float32), "2024-01-31", "M", COVARIATES)


def move(kept: StreamStore, step: int, key: StreamKey = KEY) -> None:
    before = kept.get(key)
    assert before.step == step
    after = replace(before, step=step + 1, tail=np.append(before.tail, np.float32(step)))
    kept.append(key, before, after, digest=b"%d" % step, answer=b"answer %d" % step)


def test_stream_comes_back_as_it_was_also_from_another_process(tmp_path: Path) -> None:
    path = tmp_path / "streams"
    with store(path) as first, store(path) as second:
        assert first.put(KEY, stream(1, np.nan, 3))
        got = second.get(KEY)
        assert (got.step, got.start, got.freq) == (3, "2024-01-31", "M")
        assert got.covariates == COVARIATES
        np.testing.assert_array_equal(got.tail, np.array([1, np.nan, 3], np.float32))
        move(second, 3)
    with store(path) as reopened:
        assert reopened.get(KEY).step == 4
        assert reopened.find_answer(KEY, 3) == (b"3", b"answer 3")


def test_stream_with_other_covariates_meanwhile_does_not_move_on() -> None:
    with store() as kept:
        kept.put(KEY, stream(1, 2))
        before = kept.get(KEY)
        kept.put(KEY, replace(stream(1, 2), covariates=StreamCovariates()))
        with pytest.raises(StreamConflictError):
            kept.append(KEY, before, replace(before, step=3), digest=b"", answer=b"")


def test_store_from_before_covariates_is_read_on(tmp_path: Path) -> None:
    path = tmp_path / "streams"
    with store(path) as first:
        first.put(KEY, replace(stream(1, 2), covariates=StreamCovariates()))
    with closing(sqlite3.connect(path)) as old, old:
        old.execute("ALTER TABLE streams DROP COLUMN covariates")
    with store(path) as reopened:
        assert reopened.get(KEY).covariates == StreamCovariates()
        move(reopened, 2)
        assert reopened.get(KEY).step == 3


def test_stream_moves_on_only_from_where_it_is(tmp_path: Path) -> None:
    with store(tmp_path / "streams") as first, store(tmp_path / "streams") as second:
        first.put(KEY, stream(1, 2))
        before = first.get(KEY)
        move(second, 2)
        with pytest.raises(StreamConflictError):
            first.append(KEY, before, stream(1, 2, 9), digest=b"", answer=b"")
        second.put(KEY, stream(7, 7))
        with pytest.raises(StreamConflictError):  # the same step of another history
            first.append(KEY, before, stream(1, 2, 9), digest=b"", answer=b"")


def test_last_answers_are_kept() -> None:
    with store() as kept:
        kept.put(KEY, stream(1))
        for step in range(1, 12):
            move(kept, step)
        assert kept.find_answer(KEY, 3) is None
        assert kept.find_answer(KEY, 4) == (b"4", b"answer 4")
        kept.put(KEY, stream(1))
        assert kept.find_answer(KEY, 11) is None


def test_streams_of_other_keys_and_models_are_others() -> None:
    others = [StreamKey("b", "monthly", "one"), StreamKey("a", "daily", "one")]
    with store() as kept:
        kept.put(KEY, stream(1))
        for other in others:
            with pytest.raises(StreamNotFoundError):
                kept.get(other)
            kept.put(other, stream(2))
            kept.delete(other)
        assert kept.get(KEY).tail.tolist() == [1]


def test_pages_follow_one_another() -> None:
    with store() as kept:
        for name in "ceadb":
            kept.put(StreamKey("a", "monthly", name), stream(1))
        first = kept.read_page("a", "monthly", after="", limit=3)
        rest = kept.read_page("a", "monthly", after=first[-1][0], limit=3)
        assert [[name for name, _ in page] for page in (first, rest)] == [
            ["a", "b", "c"],
            ["d", "e"],
        ]
        assert kept.read_page("b", "monthly", after="", limit=3) == []


def test_owner_may_have_only_so_many() -> None:
    with store(max_streams=2) as kept:
        kept.put(KEY, stream(1))
        kept.put(StreamKey("a", "daily", "one"), stream(1))
        with pytest.raises(StreamLimitError, match="at most 2"):
            kept.put(StreamKey("a", "monthly", "two"), stream(1))
        assert not kept.put(KEY, stream(2))
        assert kept.put(StreamKey("b", "monthly", "two"), stream(1))


def test_expired_stream_is_lost_then_forgotten() -> None:
    clock = ManualClock()
    with store(clock=clock, max_streams=2) as kept:
        kept.put(KEY, stream(1))
        clock.now = TTL_S - 1
        move(kept, 1)
        clock.now = 2 * TTL_S - 2
        assert kept.get(KEY).step == 2
        clock.now = 2 * TTL_S
        with pytest.raises(StreamLostError, match="for 100 s"):
            kept.get(KEY)
        assert kept.read_page("a", "monthly", after="", limit=9) == []
        for name in ("two", "three"):  # what is lost counts no more
            assert kept.put(StreamKey("a", "monthly", name), stream(1))
        with pytest.raises(StreamLostError):
            kept.get(KEY)
        assert kept.find_answer(KEY, 1) is None
        clock.now = 4 * TTL_S
        kept.put(StreamKey("a", "monthly", "four"), stream(1))
        with pytest.raises(StreamNotFoundError):
            kept.get(KEY)


def test_lost_stream_begins_anew() -> None:
    clock = ManualClock()
    with store(clock=clock) as kept:
        kept.put(KEY, stream(1))
        clock.now = TTL_S
        assert kept.put(KEY, stream(5, 6))
        assert kept.get(KEY).step == 2


def test_store_that_ends_with_the_service_takes_no_stream_for_unknown() -> None:
    with store(is_durable=False) as kept, pytest.raises(StreamLostError, match="earlier run"):
        kept.get(KEY)


def test_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "streams"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(StartupError, match="GATECAST_STREAM_STORE: can not open streams"):
        StreamStore(path, is_durable=True, ttl_s=TTL_S, max_streams=1)


def test_store_that_does_not_answer_is_no_lost_stream() -> None:
    with store() as kept:
        kept.put(KEY, stream(1))
        kept._connection.execute("DROP TABLE answers")
        with pytest.raises(OverloadedError):
            kept.find_answer(KEY, 1)
