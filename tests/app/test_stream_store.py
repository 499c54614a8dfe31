"""What every store of streams does: the SQLite file and the Redis."""

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.errors import StreamConflictError, StreamLimitError, StreamLostError, StreamNotFoundError
from app.gateway.stream_covariates import StreamCovariates
from app.gateway.stream_store import StreamKey, StreamStore
from tests.stream_stores import (
    COVARIATES,
    KEY,
    TTL_S,
    RedisPlace,
    SqlitePlace,
    StorePlace,
    opened,
    stream,
)


@pytest.fixture(params=["sqlite", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> StorePlace:
    if request.param == "redis":
        return RedisPlace(request.getfixturevalue("redis_server"))
    return SqlitePlace(tmp_path / "streams")


async def move(kept: StreamStore, step: int, key: StreamKey = KEY) -> None:
    before = await kept.get(key)
    assert before.step == step
    after = replace(before, step=step + 1, tail=np.append(before.tail, np.float32(step)))
    await kept.append(key, before, after, digest=b"%d" % step, answer=b"answer %d" % step)


async def test_stream_comes_back_as_it_was_also_from_another_process(place: StorePlace) -> None:
    async with opened(place.open()) as first, opened(place.open()) as second:
        assert await first.put(KEY, stream(1, np.nan, 3))
        got = await second.get(KEY)
        assert (got.step, got.start, got.freq) == (3, "2024-01-31", "M")
        assert got.covariates == COVARIATES
        np.testing.assert_array_equal(got.tail, np.array([1, np.nan, 3], np.float32))
        await move(second, 3)
    async with opened(place.open()) as reopened:
        assert (await reopened.get(KEY)).step == 4
        assert await reopened.find_answer(KEY, 3) == (b"3", b"answer 3")


async def test_stream_without_time_stamps_comes_back_so(place: StorePlace) -> None:
    async with opened(place.open()) as kept:
        await kept.put(KEY, replace(stream(1), start=None, freq=None))
        got = await kept.get(KEY)
        assert (got.start, got.freq) == (None, None)


async def test_stream_with_other_covariates_meanwhile_does_not_move_on(place: StorePlace) -> None:
    async with opened(place.open()) as kept:
        await kept.put(KEY, stream(1, 2))
        before = await kept.get(KEY)
        await kept.put(KEY, replace(stream(1, 2), covariates=StreamCovariates()))
        with pytest.raises(StreamConflictError):
            await kept.append(KEY, before, replace(before, step=3), digest=b"", answer=b"")


async def test_stream_moves_on_only_from_where_it_is(place: StorePlace) -> None:
    async with opened(place.open()) as first, opened(place.open()) as second:
        await first.put(KEY, stream(1, 2))
        before = await first.get(KEY)
        await move(second, 2)
        with pytest.raises(StreamConflictError):
            await first.append(KEY, before, stream(1, 2, 9), digest=b"", answer=b"")
        await second.put(KEY, stream(7, 7))
        with pytest.raises(StreamConflictError):  # the same step of another history
            await first.append(KEY, before, stream(1, 2, 9), digest=b"", answer=b"")


async def test_stream_that_is_gone_does_not_move_on(place: StorePlace) -> None:
    async with opened(place.open()) as kept:
        await kept.put(KEY, stream(1, 2))
        before = await kept.get(KEY)
        await kept.delete(KEY)
        with pytest.raises(StreamConflictError):
            await kept.append(KEY, before, stream(1, 2, 9), digest=b"", answer=b"")
        with pytest.raises(StreamNotFoundError):
            await kept.get(KEY)


async def test_one_of_many_writers_at_once_moves_a_stream_on(place: StorePlace) -> None:
    async with opened(place.open()) as first, opened(place.open()) as second:
        await first.put(KEY, stream(1))
        before = await first.get(KEY)
        attempts = [
            one.append(
                KEY, before, stream(1, value), digest=b"%d" % value, answer=b"answer %d" % value
            )
            for value in range(20)
            for one in (first, second)
        ]
        outcomes = await asyncio.gather(*attempts, return_exceptions=True)
        assert outcomes.count(None) == 1
        assert sum(isinstance(one, StreamConflictError) for one in outcomes) == 39
        value = (await second.get(KEY)).tail[1]
        assert await first.find_answer(KEY, 1) == (b"%d" % value, b"answer %d" % value)


async def test_last_answers_are_kept(place: StorePlace) -> None:
    async with opened(place.open()) as kept:
        await kept.put(KEY, stream(1))
        for step in range(1, 12):
            await move(kept, step)
        assert await kept.find_answer(KEY, 3) is None
        assert await kept.find_answer(KEY, 4) == (b"4", b"answer 4")
        assert await kept.find_answer(KEY, 11) == (b"11", b"answer 11")
        await kept.put(KEY, stream(1))
        assert await kept.find_answer(KEY, 11) is None


async def test_streams_of_other_keys_and_models_are_others(place: StorePlace) -> None:
    others = [StreamKey("b", "monthly", "one"), StreamKey("a", "daily", "one")]
    async with opened(place.open()) as kept:
        await kept.put(KEY, stream(1))
        for other in others:
            with pytest.raises(StreamNotFoundError):
                await kept.get(other)
            await kept.put(other, stream(2))
            await kept.delete(other)
        assert (await kept.get(KEY)).tail.tolist() == [1]


async def test_pages_follow_one_another(place: StorePlace) -> None:
    async with opened(place.open()) as kept:
        for name in "ceadb":
            await kept.put(StreamKey("a", "monthly", name), stream(1))
        for other in (StreamKey("a", "monthly2", "a2"), StreamKey("a", "daily", "a3")):
            await kept.put(other, stream(1))
        first = await kept.read_page("a", "monthly", after="", limit=3)
        rest = await kept.read_page("a", "monthly", after=first[-1][0], limit=3)
        assert [[name for name, _ in page] for page in (first, rest)] == [
            ["a", "b", "c"],
            ["d", "e"],
        ]
        assert await kept.read_page("b", "monthly", after="", limit=3) == []
        await kept.delete(StreamKey("a", "monthly", "d"))
        again = await kept.read_page("a", "monthly", after="c", limit=3)
        assert [name for name, _ in again] == ["e"]


async def test_page_is_full_though_streams_expired_before_it(place: StorePlace) -> None:
    async with opened(place.open()) as kept:
        for name in "abcd":
            await kept.put(StreamKey("a", "monthly", name), stream(1))
        place.pass_time(0.6 * TTL_S)
        for name in "bd":
            await move(kept, 1, StreamKey("a", "monthly", name))
        place.pass_time(0.6 * TTL_S)
        page = await kept.read_page("a", "monthly", after="", limit=2)
        assert [(name, found.step) for name, found in page] == [("b", 2), ("d", 2)]


async def test_owner_may_have_only_so_many(place: StorePlace) -> None:
    async with opened(place.open(max_streams=2)) as kept:
        await kept.put(KEY, stream(1))
        await kept.put(StreamKey("a", "daily", "one"), stream(1))
        with pytest.raises(StreamLimitError, match="at most 2"):
            await kept.put(StreamKey("a", "monthly", "two"), stream(1))
        assert not await kept.put(KEY, stream(2))
        assert await kept.put(StreamKey("b", "monthly", "two"), stream(1))
        await kept.delete(KEY)
        assert await kept.put(StreamKey("a", "monthly", "two"), stream(1))


async def test_many_at_once_do_not_pass_the_limit(place: StorePlace) -> None:
    async with (
        opened(place.open(max_streams=5)) as first,
        opened(place.open(max_streams=5)) as second,
    ):
        attempts = [
            one.put(StreamKey("a", "monthly", f"{number}"), stream(1))
            for number in range(10)
            for one in (first, second)
        ]
        outcomes = await asyncio.gather(*attempts, return_exceptions=True)
        assert outcomes.count(True) == 5
        assert len(await first.read_page("a", "monthly", after="", limit=99)) == 5


async def test_expired_stream_is_lost_then_forgotten(place: StorePlace) -> None:
    async with opened(place.open(max_streams=2)) as kept:
        await kept.put(KEY, stream(1))
        place.pass_time(0.6 * TTL_S)
        await move(kept, 1)
        place.pass_time(0.6 * TTL_S)
        assert (await kept.get(KEY)).step == 2
        place.pass_time(0.5 * TTL_S)
        for use in (kept.get, kept.delete):
            with pytest.raises(StreamLostError, match="for 100 s"):
                await use(KEY)
        assert await kept.read_page("a", "monthly", after="", limit=9) == []
        for name in ("two", "three"):  # what is lost counts no more
            assert await kept.put(StreamKey("a", "monthly", name), stream(1))
        with pytest.raises(StreamLostError):
            await kept.get(KEY)
        assert await kept.find_answer(KEY, 1) is None
        place.pass_time(2 * TTL_S)
        await kept.put(StreamKey("a", "monthly", "four"), stream(1))
        with pytest.raises(StreamNotFoundError):
            await kept.get(KEY)


async def test_lost_stream_begins_anew(place: StorePlace) -> None:
    async with opened(place.open()) as kept:
        await kept.put(KEY, stream(1))
        place.pass_time(1.5 * TTL_S)
        assert await kept.put(KEY, stream(5, 6))
        assert (await kept.get(KEY)).step == 2
