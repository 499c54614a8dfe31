"""Requests that wait for one model: admission by work, and the choice of the next batch."""

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from app.errors import GatecastError, OverloadedError
from app.interface import Extent
from app.tensors import Tensors
from app.wire import BACKGROUND_PRIORITY

_MAX_CANDIDATES = 512
_LONGEST_RETRY_S = 60
_RUNS_UNTIL_OLDEST = 4


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Bounds of one run and of the queue before it, as in Settings.

    ``max_run_s`` bounds a run by the speed of earlier ones: no watchdog may take a long run of a
    large model for a hung process.
    """

    max_batch_size: int
    max_batch_steps: int
    max_run_s: float
    max_padding_share: float
    max_queue_steps: int
    max_queue_delay_s: float
    priority_levels: int = 1


@dataclass(frozen=True, slots=True)
class Terms:
    """When a request came, when it must be answered, and how urgent it is.

    Times are those of the queue's clock. Priority 1 is the highest; 0, and what is beyond the
    levels of the queue, is the level in the middle. ``BACKGROUND_PRIORITY`` is below all of them.
    """

    queued_at: float
    deadline: float
    priority: int = 0


class PendingRequest:
    """Rows of one caller, answered exactly once: later answers are ignored.

    ``is_counted`` is False where another request stands for it in the statistics.
    """

    __slots__ = (
        "_answer",
        "extent",
        "inputs",
        "is_counted",
        "is_queued",
        "outputs",
        "terms",
    )

    def __init__(
        self,
        inputs: Tensors,
        outputs: Sequence[str],
        extent: Extent,
        terms: Terms,
        *,
        answer: Callable[[Tensors | GatecastError], None],
        is_counted: bool = True,
    ) -> None:
        self.inputs = inputs
        self.is_counted = is_counted
        self.outputs = outputs
        self.terms = terms
        self.extent = extent
        self.is_queued = False
        self._answer: Callable[[Tensors | GatecastError], None] | None = answer

    @property
    def is_waiting(self) -> bool:
        """Whether its caller still waits for an answer."""
        return self._answer is not None

    def answer(self, answer: Tensors | GatecastError) -> None:
        """Answer the caller, unless that has happened or the caller has left."""
        send, self._answer = self._answer, None
        if send is not None:
            send(answer)

    def abandon(self) -> None:
        """Forget the caller, who has left."""
        self._answer = None


class RequestQueue:
    """Requests by priority, first in, first out; those of like length are taken along.

    The first request of the highest level is in the next batch; others join it only while padding
    stays a small share of the run, so a short request is not held up by a long one that came after
    it. Every fourth batch begins with the request that has waited longest, whatever its level, so
    none waits for ever; but for those in the background, which run only when nothing else waits.
    """

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._levels = _make_levels(limits)
        self._background: deque[PendingRequest] = deque()
        self._num_taken = 0
        self._steps_per_s = 0.0
        self.steps = 0

    def __len__(self) -> int:
        return len(self._background) + sum(map(len, self._levels))

    def change_limits(self, limits: BatchLimits) -> None:
        """Go on within other bounds; what waits already stays admitted."""
        waiting = [request for level in self._levels for request in level]
        self._limits, self._levels = limits, _make_levels(limits)
        for request in sorted(waiting, key=lambda request: request.terms.queued_at):
            self._level_of(request).append(request)

    def put(self, request: PendingRequest) -> None:
        """Admit a request.

        Raises:
            OverloadedError: The work that waits already would exceed its bound.
        """
        if self.steps + request.extent.steps > self._limits.max_queue_steps and len(self):
            raise OverloadedError("the queue of this model is full", self._retry_after_s())
        self._level_of(request).append(request)
        request.is_queued = True
        self.steps += request.extent.steps

    def abandon(self, request: PendingRequest) -> None:
        """Forget a request whose caller has left; its work counts no more."""
        self._release(request)
        request.abandon()

    def is_full_batch(self) -> bool:
        """Whether waiting longer could not make the next batch larger."""
        waiting = (r for level in self._all_levels() for r in level if r.is_waiting)
        rows = sum(request.extent.rows for request in waiting)
        return rows >= self._limits.max_batch_size or self.steps >= self._limits.max_batch_steps

    def oldest_queued_at(self) -> float | None:
        """Return when the oldest request came, None where nothing waits."""
        levels = self._all_levels()
        return min((level[0].terms.queued_at for level in levels if level), default=None)

    def take(self, now: float) -> tuple[list[PendingRequest], list[PendingRequest]]:
        """Take the next batch out of the queue, and apart from it what expired or was abandoned."""
        batch = _Batch(self._limits, self._max_batch_steps(), now)
        for level in self._order():
            batch.fill(level)
        self._num_taken += bool(batch.requests)
        for request in (*batch.requests, *batch.dropped):
            self._release(request)
        return batch.requests, batch.dropped

    def clear(self) -> list[PendingRequest]:
        """Take everything out."""
        requests = [request for level in self._all_levels() for request in level]
        for level in self._all_levels():
            level.clear()
        for request in requests:
            self._release(request)
        return requests

    def record_run(self, steps: int, seconds: float) -> None:
        """Learn the speed of the model from a run."""
        speed = steps / max(seconds, 1e-6)
        self._steps_per_s += (speed - self._steps_per_s) * (0.1 if self._steps_per_s else 1.0)

    def _level_of(self, request: PendingRequest) -> deque[PendingRequest]:
        if request.terms.priority == BACKGROUND_PRIORITY:
            return self._background
        num_levels = len(self._levels)
        level = request.terms.priority
        if not 1 <= level <= num_levels:
            level = (num_levels + 1) // 2
        return self._levels[level - 1]

    def _order(self) -> list[deque[PendingRequest]]:
        """Return the levels that hold requests, in the order in which a batch takes from them."""
        levels = [level for level in self._levels if level]
        if self._num_taken % _RUNS_UNTIL_OLDEST == _RUNS_UNTIL_OLDEST - 1:
            levels.sort(key=lambda level: level[0].terms.queued_at)
        return [*levels, self._background]

    def _all_levels(self) -> list[deque[PendingRequest]]:
        return [*self._levels, self._background]

    def _release(self, request: PendingRequest) -> None:
        if request.is_queued:
            request.is_queued = False
            self.steps -= request.extent.steps

    def _max_batch_steps(self) -> int:
        if not self._steps_per_s:
            return self._limits.max_batch_steps
        in_time = int(self._steps_per_s * self._limits.max_run_s)
        return min(self._limits.max_batch_steps, in_time)

    def _retry_after_s(self) -> int:
        wait = self.steps / self._steps_per_s if self._steps_per_s else 1.0
        return max(1, min(_LONGEST_RETRY_S, round(wait)))


def _make_levels(limits: BatchLimits) -> list[deque[PendingRequest]]:
    return [deque() for _ in range(max(1, limits.priority_levels))]


class _Batch:
    """The next batch, while it is gathered."""

    def __init__(self, limits: BatchLimits, max_steps: int, now: float) -> None:
        self.requests: list[PendingRequest] = []
        self.dropped: list[PendingRequest] = []
        self._limits = limits
        self._max_steps = max_steps
        self._now = now
        self._candidates = _MAX_CANDIDATES
        self._rows = self._longest = self._real_steps = 0
        self._group: Hashable = None

    def fill(self, level: deque[PendingRequest]) -> None:
        """Take what fits out of ``level``, and what needs no run any more."""
        passed: list[PendingRequest] = []
        while level and self._candidates and not self._is_full():
            self._candidates -= 1
            request = level.popleft()
            if not request.is_waiting or request.terms.deadline <= self._now:
                self.dropped.append(request)
            elif self._admit(request.extent):
                self.requests.append(request)
            else:
                passed.append(request)
        level.extendleft(reversed(passed))

    def _is_full(self) -> bool:
        is_alone = self._rows > 0 and self._group is None
        return is_alone or self._rows >= self._limits.max_batch_size

    def _admit(self, extent: Extent) -> bool:
        rows = self._rows + extent.rows
        longest = max(self._longest, extent.length)
        real_steps = self._real_steps + extent.real_steps
        padded = rows * longest
        fits = (
            rows <= self._limits.max_batch_size
            and padded <= self._max_steps
            and padded - real_steps <= self._limits.max_padding_share * padded
            and extent.group is not None
            and extent.group == self._group
        )
        if self._rows and not fits:
            return False
        self._rows, self._longest, self._real_steps = rows, longest, real_steps
        self._group = extent.group
        return True
