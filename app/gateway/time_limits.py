"""Time limits that cost next to nothing, for what nearly always ends before them.

A timer of the event loop costs as much as parsing a small request, and each request needs several
that are hardly ever used. Here limits stand in slots of a hundredth of a second, and one timer goes
from slot to slot while there is one: the timing wheel of Varghese and Lauck (1987).
"""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

_TICK_S = 0.01


class _Alarms:
    """The callbacks of one event loop, by slot and ticket; a slot is the number of its tick."""

    def __init__(self) -> None:
        self._slots: dict[int, dict[int, Callable[[], None]]] = {}
        self._next_slot = 0
        self._is_ticking = False
        self._last = 0

    def set(self, when: float, callback: Callable[[], None]) -> tuple[int, int]:
        if not self._is_ticking:
            self._next_slot = int(time.monotonic() / _TICK_S)
            self._is_ticking = True
            asyncio.get_running_loop().call_later(_TICK_S, self._tick)
        self._last += 1
        slot = max(self._next_slot, int(when / _TICK_S) + 1)
        self._slots.setdefault(slot, {})[self._last] = callback
        return slot, self._last

    def cancel(self, slot: int, ticket: int) -> None:
        waiting = self._slots.get(slot)
        if waiting is not None:
            waiting.pop(ticket, None)
            if not waiting:
                del self._slots[slot]

    def _tick(self) -> None:
        now = int(time.monotonic() / _TICK_S)
        while self._next_slot <= now:
            slot = self._next_slot
            self._next_slot += 1
            while waiting := self._slots.get(slot):  # a callback may cancel others
                ticket = next(iter(waiting))
                callback = waiting[ticket]
                self.cancel(slot, ticket)
                callback()
        self._is_ticking = bool(self._slots)
        if self._is_ticking:
            asyncio.get_running_loop().call_later(_TICK_S, self._tick)


_latest: dict[asyncio.AbstractEventLoop, _Alarms] = {}
"""Of the event loop that was asked for last; those of others live while they tick."""


class Alarm:
    """Calls ``callback`` at ``when``, a time of ``time.monotonic()``, unless it is cancelled."""

    __slots__ = ("_alarms", "_place")

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        alarms = _latest.get(loop)
        if alarms is None:
            _latest.clear()
            alarms = _latest[loop] = _Alarms()
        self._alarms = alarms
        self._place = alarms.set(when, callback)

    def cancel(self) -> None:
        """Call nothing any more."""
        self._alarms.cancel(*self._place)


class TimeLimit:
    """Cancels what runs inside ``with`` at ``when`` and raises ``TimeoutError`` in its place.

    As ``asyncio.timeout``, to within a hundredth of a second.
    """

    __slots__ = ("_alarm", "_num_cancels", "_task", "_when", "expired")

    def __init__(self, when: float) -> None:
        self.expired = False
        self._when = when

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a time limit needs a task")
        self._task = task
        self._num_cancels = task.cancelling()
        self._alarm = Alarm(self._when, self.pass_limit)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._alarm.cancel()
        if not self.expired:
            return
        if self._task.uncancel() <= self._num_cancels and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def pass_limit(self) -> None:
        """Do what is to be done at the time."""
        self.expire()

    def expire(self) -> None:
        """End what runs inside now."""
        self.expired = True
        self._task.cancel()
