import asyncio
import time

import pytest

from app.gateway.time_limits import Alarm, TimeLimit


async def test_what_takes_longer_is_cancelled() -> None:
    with pytest.raises(TimeoutError), TimeLimit(time.monotonic() + 0.01):
        await asyncio.Event().wait()


async def test_what_ends_before_is_left_alone() -> None:
    with TimeLimit(time.monotonic() + 0.01) as limit:
        pass
    await asyncio.sleep(0.05)
    assert not limit.expired


async def test_error_inside_is_raised_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError), TimeLimit(time.monotonic() + 60):
        raise ZeroDivisionError


async def test_cancelling_from_outside_is_no_timeout() -> None:
    async def wait() -> None:
        with TimeLimit(time.monotonic() + 60):
            await asyncio.Event().wait()

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_inner_limit_leaves_the_outer_one_standing() -> None:
    with TimeLimit(time.monotonic() + 60) as outer:
        with pytest.raises(TimeoutError), TimeLimit(time.monotonic()):
            await asyncio.Event().wait()
        await asyncio.sleep(0)
    assert not outer.expired


async def test_alarms_ring_in_time_and_cancelled_ones_never() -> None:
    rung: list[str] = []
    done = asyncio.Event()

    def ring_last() -> None:
        rung.append("last")
        done.set()

    Alarm(time.monotonic() + 0.03, ring_last)
    Alarm(time.monotonic(), lambda: rung.append("first"))
    Alarm(time.monotonic(), lambda: rung.append("never")).cancel()
    async with asyncio.timeout(10):
        await done.wait()
    assert rung == ["first", "last"]
