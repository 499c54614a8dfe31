"""Time limits that cost next to nothing, for what nearly always ends before them.

A timer of the event loop costs as much as parsing a small request, and each request needs several
that are hardly ever used. Here a limit is an entry in a table, which is looked through every
hundredth of a second while there is one.
"""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self
from weakref import WeakKeyDictionary

_TICK_S = 0.01


class _Alarms:
    """The callbacks of one event loop, by ticket, each with its time."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[float, Callable[[], None]]] = {}
        self._is_ticking = False
        self._last = 0

    def set(self, when: float, callback: Callable[[], None]) -> int:
        self._last += 1
        self._waiting[self._last] = (when, callback)
        if not self._is_ticking:
            self._is_ticking = True
            asyncio.get_running_loop().call_later(_TICK_S, self._tick)
        return self._last

    def cancel(self, ticket: int) -> None:
        self._waiting.pop(ticket, None)

    def _tick(self) -> None:
        now = time.monotonic()
        due = [ticket for ticket, (when, _) in self._waiting.items() if when <= now]
        for ticket in due:
            _, callback = self._waiting.pop(ticket, (now, None))
            if callback is not None:  # not cancelled by one that was called before it
                callback()
        self._is_ticking = bool(self._waiting)
        if self._is_ticking:
            asyncio.get_running_loop().call_later(_TICK_S, self._tick)


_alarms: WeakKeyDictionary[asyncio.AbstractEventLoop, _Alarms] = WeakKeyDictionary()


class Alarm:
    """Calls ``callback`` at ``when``, a time of ``time.monotonic()``, unless it is cancelled."""

    __slots__ = ("_alarms", "_ticket")

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        alarms = _alarms.get(loop)
        if alarms is None:
            alarms = _alarms[loop] = _Alarms()
        self._alarms = alarms
        self._ticket = alarms.set(when, callback)

    def cancel(self) -> None:
        """Call nothing any more."""
        self._alarms.cancel(self._ticket)


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
        self._alarm = Alarm(self._when, self.expire)
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

    def expire(self) -> None:
        """End what runs inside now."""
        self.expired = True
        self._task.cancel()
