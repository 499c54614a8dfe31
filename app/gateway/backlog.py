"""What this gateway has waiting for one model, and how long more of it would wait.

The runner's own queue is what counts, but a gateway that is short of processor time itself fills
that only slowly, and meanwhile requests pile up before it. So it looks at the time that its own
requests take to be answered as well.
"""

import time
from collections.abc import Awaitable, Callable

from app.errors import OverloadedError
from app.tensors import Tensors
from app.turns import WaitingWork

_FEWEST = 32
"""Requests that may wait in any case: it takes some to fill the runs of two runners."""
_FEWEST_TO_LEARN = 16
_WINDOW_S = 0.1
_WEIGHT = 0.2
_SHARE_TO_DRAIN = 0.25
"""Of the longest wait: so much of it must be over before callers that were refused are heard."""
_LONGEST_RETRY_S = 60


class Backlog:
    """Requests that are on their way through the runners.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._work = WaitingWork()
        self._count = 0
        self._steps_per_s = 0.0
        self._window_at: float | None = None
        self._window_steps = 0

    def check(self, flow: str, steps: int, max_wait_s: float) -> None:
        """Let new work in, or refuse it.

        Raises:
            OverloadedError: It would wait for longer than ``max_wait_s``.
        """
        if self._count < _FEWEST or not self._steps_per_s:
            return
        wait_s = self._work.before(flow, steps) / self._steps_per_s
        if wait_s > max_wait_s:
            raise OverloadedError(
                "too much work waits for this model",
                max(1, min(_LONGEST_RETRY_S, round(wait_s))),
                pause_s=wait_s - (1 - _SHARE_TO_DRAIN) * max_wait_s,
            )

    async def follow(self, answer: Awaitable[Tensors], flow: str, steps: int) -> Tensors:
        """Wait for an answer, and count it until then; errors tell nothing of the speed."""
        self._work.add(flow, steps)
        self._count += 1
        try:
            outputs = await answer
        finally:
            self._work.remove(flow, steps)
            self._count -= 1
            if self._count < _FEWEST_TO_LEARN:
                self._window_at = None  # they may be waiting for work
        if self._count >= _FEWEST_TO_LEARN:
            self._learn(steps)
        return outputs

    def _learn(self, steps: int) -> None:
        now = self._clock()
        if self._window_at is None:
            self._window_at, self._window_steps = now, 0
            return
        self._window_steps += steps
        if (passed_s := now - self._window_at) >= _WINDOW_S:
            speed = self._window_steps / passed_s
            self._steps_per_s += (speed - self._steps_per_s) * (_WEIGHT if self._steps_per_s else 1)
            self._window_at, self._window_steps = now, 0
