"""How long a run of a model will take, found out before a run that may take too long.

One row of very many steps is one run, which nothing can divide, and a process that runs it is
silent meanwhile. Where the runs of late show that it is short enough, it is run. Else they tell too
little, for short runs are slower by the step than long ones: the first steps of the request itself
are run, more and more of them, until these take long enough to tell.
"""

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np

from app.errors import EngineError, PayloadTooLargeError
from app.interface import Interface, steps_beyond
from app.tensors import Tensors

_SLOWEST_STEP_S = 0.01
"""Of one row, by a model that has not run yet."""
_FEW_STEPS = 64
"""Too few to take too long, whatever the model."""
_FIRST_STEPS = 16
_GROWTH = 4
_TELLING_S = 0.02
"""Runs of so much time differ little from one to the next."""
_NUM_TRIES = 3
_FRESH_S = 10.0
"""So long a speed that was measured holds; a busy machine may be faster later."""

Run = Callable[[Tensors], Awaitable[float]]
"""Runs inputs, and returns the seconds that it took, without any wait before it."""


@dataclass(frozen=True, slots=True)
class _Speed:
    """Seconds of a step of so many rows; ``until`` when it counts."""

    rows: int
    step_s: float
    until: float

    def bound(self, rows: int, length: int) -> float:
        """Return how long a run of another size takes at most.

        Fewer rows take no longer than more, and twice as many at most twice as long.
        """
        return self.step_s * max(1.0, rows / self.rows) * length


class Pace:
    """Knows how fast one model was of late.

    Args:
        interface: Of the model.
        clock: Monotonic seconds.
    """

    def __init__(self, interface: Interface, clock: Callable[[], float] = time.monotonic) -> None:
        self._interface = interface
        self._clock = clock
        self._best = _Speed(1, _SLOWEST_STEP_S, math.inf)
        self._measured: dict[int, _Speed] = {}

    def record(self, inputs: Tensors, *, started: float, ended: float) -> None:
        """Learn from a run: the best one of late counts."""
        rows, length = self._interface.rows_of(inputs), self._interface.length_of(inputs)
        best, step_s = self._best, (ended - started) / length
        if best.until < ended or step_s / rows <= best.step_s / best.rows:
            self._best = _Speed(rows, step_s, ended + _FRESH_S)

    async def check(self, inputs: Tensors, run: Run, longest_s: float) -> None:
        """Check that a run of ``inputs`` will not take longer than it may.

        Args:
            inputs: Of the run.
            run: Runs the first steps of it.
            longest_s: Longest that it may take.

        Raises:
            PayloadTooLargeError: It would take longer.
        """
        rows, length = self._interface.rows_of(inputs), self._interface.length_of(inputs)
        if length <= _FEW_STEPS or self._best.bound(rows, length) <= longest_s:
            return
        measured = self._measured.get(rows)
        if measured is None or measured.until < self._clock():
            measured = await self._measure(inputs, run, longest_s / length)
            if measured is None:
                return
            self._measured[rows] = measured
        takes_s = measured.bound(rows, length)
        if takes_s > longest_s:
            raise PayloadTooLargeError(
                f"a run of {rows} x {length} steps would take this model {takes_s:.1f} s, and it"
                f" may take {longest_s:.1f} s: send fewer steps"
            )

    async def _measure(self, inputs: Tensors, run: Run, longest_step_s: float) -> _Speed | None:
        """Return the speed at so many rows; None where it is high enough, or nothing can tell.

        Only a run of nearly all steps takes too little time to tell: then all take little.
        """
        length, steps = self._interface.length_of(inputs), _FIRST_STEPS
        fewer, shorter_s = 0, 0.0
        while steps < length:
            took_s = await self._time(inputs, run, steps)
            if took_s <= longest_step_s * steps:
                return None
            if took_s >= _TELLING_S:
                tries = [await self._time(inputs, run, steps) for _ in range(1, _NUM_TRIES)]
                # What a run costs that has no step at all is in both.
                step_s = (min(took_s, *tries) - shorter_s) / (steps - fewer)
                rows = self._interface.rows_of(inputs)
                return _Speed(rows, step_s, self._clock() + _FRESH_S)
            fewer, shorter_s = steps, took_s
            steps *= _GROWTH
        return None

    async def _time(self, inputs: Tensors, run: Run, steps: int) -> float:
        """Run the first steps; what they raise is left to the run of all of them."""
        try:
            return await run(first_steps(inputs, self._interface, steps))
        except EngineError:
            return 0.0


def first_steps(inputs: Tensors, interface: Interface, steps: int) -> Tensors:
    """Return the inputs of a run cut to so many steps, as views."""
    part: Tensors = {}
    for name, array in inputs.items():
        beyond = [steps_beyond(size) for size in interface.input_specs[name].shape]
        places = (slice(None) if more is None else slice(steps + more) for more in beyond)
        part[name] = np.minimum(array, steps) if name == interface.lengths else array[(*places,)]
    return part
