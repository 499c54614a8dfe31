"""Remembers which callers the runners have just refused, and refuses them at once for a while.

A refusal by a runner costs the reading of a request and two frames, and a flood of them would take
the processor from the answers. So the runner says for how long it would go on refusing, and until
then the gateway does it alone.
"""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

from app.errors import OverloadedError


class Flow(NamedTuple):
    """Requests that are refused alike; priority 0 is the level in the middle."""

    model_name: str
    flow: str
    priority: int = 0


class Pauses:
    """The flows that are refused now.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends: dict[Flow, tuple[float, OverloadedError]] = {}
        self._last_end = -math.inf

    @property
    def is_any(self) -> bool:
        """Whether any flow may be refused now."""
        return self._last_end > self._clock()

    def reason_of(self, flow: Flow) -> OverloadedError | None:
        """Return why a flow is refused now; None where it is not."""
        if flow not in self._ends:
            return None
        ends_at, reason = self._ends[flow]
        if ends_at > self._clock():
            return reason
        del self._ends[flow]
        return None

    def check(self, flow: Flow) -> None:
        """Let a request pass, or refuse it.

        Raises:
            OverloadedError: The runner has refused one of the same flow a moment ago.
        """
        reason = self.reason_of(flow)
        if reason is not None:
            raise OverloadedError(str(reason), reason.retry_after_s)

    def begin(self, flow: Flow, reason: OverloadedError) -> None:
        """Refuse a flow for as long as ``reason`` says."""
        if reason.pause_s <= 0:
            return
        now = self._clock()
        end = now + reason.pause_s
        # Not the error itself: one that was raised holds the frames that it went through.
        kept = OverloadedError(str(reason), reason.retry_after_s)
        self._ends = {one: held for one, held in self._ends.items() if held[0] > now}
        self._ends[flow] = (end, kept)
        self._last_end = max(self._last_end, end)
