"""The size of a run beyond which the machine gains nothing, found from the runs themselves."""

import statistics
from collections import deque

_SMALLEST = 4
"""Smaller ones lose too much to what every run costs, whatever its size."""
_NUM_SAMPLES = 7
_FILLED = 0.75
"""Runs that fill less of their size tell nothing of it."""
_GAIN = 0.98
"""A size is large enough when it is so near to the speed of the fastest one."""
_RUNS_UNTIL_STALE = 2000


class BatchSizer:
    """Chooses the most rows of a run.

    It begins with the most there may be. When that has run full some times, it lets each smaller
    size run as often, and then keeps to the smallest that is about as fast as any: larger runs
    would only let the first of their rows wait for the last. After some thousands of runs it looks
    again.

    Args:
        most: Largest size, which it never exceeds.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._begin()

    def _begin(self) -> None:
        sizes = _sizes(self._most)
        self._speeds = {size: deque[float](maxlen=_NUM_SAMPLES) for size in sizes}
        self._num_tries = dict.fromkeys(sizes, 0)
        self._num_runs = 0
        self.size = self._most
        """Most rows of the next run."""

    def record(self, rows: int, steps: int, seconds: float) -> None:
        """Learn from a run of so many rows and steps.

        ``seconds`` hold what goes with a run as well, such as its answers: small runs pay more.
        """
        self._num_runs += 1
        self._num_tries[self.size] += 1
        if self._num_runs > _RUNS_UNTIL_STALE:
            self._begin()
        size = next((size for size in self._speeds if size >= rows), self._most)
        if _FILLED * size <= rows <= size:
            self._speeds[size].append(steps / max(seconds, 1e-9))
        self.size = self._choose()

    def _choose(self) -> int:
        if len(self._speeds[self._most]) < _NUM_SAMPLES:
            return self._most
        for size, speeds in self._speeds.items():
            if len(speeds) < _NUM_SAMPLES and self._num_tries[size] < _NUM_SAMPLES:
                return size
        usual = {size: statistics.median(runs) for size, runs in self._speeds.items() if runs}
        least = _GAIN * max(usual.values())
        return next(size for size, speed in usual.items() if speed >= least)


def _sizes(most: int) -> list[int]:
    """Return the powers of two from the smallest size on, and ``most`` itself."""
    sizes = [min(_SMALLEST, most)]
    while sizes[-1] < most:
        sizes.append(min(2 * sizes[-1], most))
    return sizes
