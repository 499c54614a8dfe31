"""Requests that wait for one model: admission by work, and the choice of the next batch."""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

from app.errors import GatecastError, OverloadedError
from app.interface import Extent
from app.runner.batch_size import BatchSizer
from app.runner.fair_queue import Entry, FairQueue
from app.tensors import Tensors
from app.wire import BACKGROUND_PRIORITY

_MAX_CANDIDATES = 512
_LOOK_AHEAD = 8
"""Of the requests behind those that a run could hold: so many times as many are looked at."""
_LIKE_SHARE = 0.05
"""Most padding among rows of like length."""
_LONGEST_RETRY_S = 60
_LONGEST_RUN = 3
"""Of the seconds that bound what is merged, which are a sixth of the watchdog's."""
_RUNS_UNTIL_OLDEST = 4
_SHARE_TO_DRAIN = 0.25
"""Of the longest wait: so much of it must be over before callers that were refused are heard."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Bounds of one run and of the queue before it, as in Settings.

    ``max_run_s`` bounds what is merged by the speed of earlier runs: no watchdog may take a long
    run of a large model for a hung process. ``max_queue_wait_s`` bounds the queue by the speed at
    which it was emptied lately. With ``is_size_fitted``, runs stay smaller than ``max_batch_size``
    where larger ones gain nothing; with ``has_buckets``, they are padded to few fixed sizes.
    ``num_slots`` runs may be under way at a time; more than one needs as many threads.
    """

    max_batch_size: int
    max_batch_steps: int
    max_run_s: float
    max_padding_share: float
    max_queue_steps: int
    max_queue_delay_s: float
    priority_levels: int = 1
    max_queue_wait_s: float = math.inf
    is_size_fitted: bool = False
    has_buckets: bool = False
    num_slots: int = 1

    @property
    def longest_run_s(self) -> float:
        """Longest that a run may take which can not be made shorter."""
        return _LONGEST_RUN * self.max_run_s


@dataclass(frozen=True, slots=True)
class Terms:
    """When a request came, when it must be answered, and how urgent it is.

    Times are those of the queue's clock. Priority 1 is the highest; 0, and what is beyond the
    levels of the queue, is the level in the middle. ``BACKGROUND_PRIORITY`` is below all of them.

    Attributes:
        flow: Requests of one flow are run in the order in which they came; flows take turns.
        is_begun: Whether it is a part of a request of which another part was sent before.
    """

    queued_at: float
    deadline: float
    priority: int = 0
    flow: str = ""
    is_begun: bool = False


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
    """Requests by priority, within a level in fair turns; those of like length are taken along.

    The next request of the highest level is in the next batch. First those of like length join it,
    also from further behind; then, up to half of the most rows, others while padding stays a small
    share of the run: so a short request is not held up by a long one that came after it, and a long
    queue is run nearly without padding. Every fourth batch begins with the request that has waited
    longest, whatever its level, so none waits for ever; but for those in the background, which run
    only when nothing else waits.
    """

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._levels = _make_levels(limits)
        self._background = FairQueue[PendingRequest]()
        self._num_taken = 0
        self._steps_per_s = 0.0
        self._drained_steps_per_s = 0.0
        self._sizer = BatchSizer(limits.max_batch_size)
        self.steps = 0

    def __len__(self) -> int:
        return len(self._background) + sum(map(len, self._levels))

    def change_limits(self, limits: BatchLimits) -> None:
        """Go on within other bounds; what waits already stays admitted."""
        waiting = [request for level in self._levels for request in level]
        released = [request for request in waiting if not request.is_queued]
        if limits.max_batch_size != self._limits.max_batch_size:
            self._sizer = BatchSizer(limits.max_batch_size)
        self._limits, self._levels = limits, _make_levels(limits)
        for request in sorted(waiting, key=lambda request: request.terms.queued_at):
            self._level_of(request).put(request, request.terms.flow, request.extent.steps)
        for request in released:
            self.refund(request)
            self._level_of(request).release(request.terms.flow, request.extent.steps)

    def put(self, request: PendingRequest) -> None:
        """Admit a request.

        Raises:
            OverloadedError: The work that waits already would exceed its bound, or take too long.
        """
        terms, steps = request.terms, request.extent.steps
        if self.steps + steps > self._limits.max_queue_steps and self.steps:
            raise OverloadedError("the queue of this model is full", self._retry_after_s())
        level = self._level_of(request)
        if not terms.is_begun and level is not self._background:
            self._check_wait(terms, self._wait_before(level, terms.flow, steps))
        level.put(request, terms.flow, steps)
        request.is_queued = True
        self.steps += steps

    def abandon(self, request: PendingRequest) -> None:
        """Forget a request whose caller has left; its work counts no more."""
        self._withdraw(request)
        request.abandon()

    def is_full_batch(self) -> bool:
        """Whether waiting longer could not make the next batch larger."""
        waiting = (r for level in self._all_levels() for r in level if r.is_waiting)
        rows = sum(request.extent.rows for request in waiting)
        return rows >= self.max_batch_size or self.steps >= self._limits.max_batch_steps

    def oldest_queued_at(self) -> float | None:
        """Return when the oldest request came, None where nothing waits."""
        waiting = (request for level in self._all_levels() for request in level)
        return min((request.terms.queued_at for request in waiting), default=None)

    def take(self, now: float) -> tuple[list[PendingRequest], list[PendingRequest]]:
        """Take the next batch out of the queue, and apart from it what expired or was abandoned."""
        limits = replace(self._limits, max_batch_size=self.max_batch_size)
        batch = _Batch(limits, self._max_batch_steps(), now)
        for level in self._order():
            batch.fill(level)
        self._num_taken += bool(batch.requests)
        for request in batch.dropped:
            self._withdraw(request)
        for request in batch.requests:
            self._release(request)
        return batch.requests, batch.dropped

    def clear(self) -> list[PendingRequest]:
        """Take everything out."""
        requests = [request for level in self._all_levels() for request in level]
        for level in self._all_levels():
            level.clear()
        for request in requests:
            self._withdraw(request)
        return requests

    def refund(self, request: PendingRequest) -> None:
        """Do not charge the caller for a request that is not run after all."""
        self._level_of(request).refund(request.terms.flow, request.extent.steps)

    @property
    def max_batch_size(self) -> int:
        """Most rows of the next run, if no request has more."""
        return self._sizer.size if self._limits.is_size_fitted else self._limits.max_batch_size

    def record_run(self, steps: int, seconds: float) -> None:
        """Learn the speed of the model from a run of so many padded steps in all."""
        speed = steps / max(seconds, 1e-6)
        self._steps_per_s += (speed - self._steps_per_s) * (0.1 if self._steps_per_s else 1.0)

    def record_drain(self, rows: int, steps: int, seconds: float) -> None:
        """Learn how fast the queue is emptied while requests wait all the time.

        Args:
            rows: Of one run.
            steps: Padded ones, in all.
            seconds: From the end of the run before to the end of this one.
        """
        self._sizer.record(rows, steps, seconds)
        speed = steps / max(seconds, 1e-6)
        known = self._drained_steps_per_s
        self._drained_steps_per_s += (speed - known) * (0.1 if known else 1.0)

    def _wait_before(self, level: FairQueue[PendingRequest], flow: str, steps: int) -> float:
        """Estimate the seconds until a new request would begin."""
        if not self._drained_steps_per_s:
            return 0.0
        before = level.before(flow, steps)
        for higher in self._levels:
            if higher is level:
                break
            before += sum(higher.work.steps.values())
        return before / self._drained_steps_per_s

    def _check_wait(self, terms: Terms, wait_s: float) -> None:
        longest_s = self._limits.max_queue_wait_s
        if wait_s > longest_s:
            raise OverloadedError(
                "too much work waits for this model",
                max(1, min(_LONGEST_RETRY_S, round(wait_s))),
                pause_s=wait_s - (1 - _SHARE_TO_DRAIN) * longest_s,
            )
        if terms.queued_at + wait_s > terms.deadline:
            raise OverloadedError(
                "so much work waits for this model that the deadline would pass",
                max(1, min(_LONGEST_RETRY_S, round(wait_s))),
            )

    def _level_of(self, request: PendingRequest) -> FairQueue[PendingRequest]:
        if request.terms.priority == BACKGROUND_PRIORITY:
            return self._background
        num_levels = len(self._levels)
        level = request.terms.priority
        if not 1 <= level <= num_levels:
            level = (num_levels + 1) // 2
        return self._levels[level - 1]

    def _order(self) -> list[FairQueue[PendingRequest]]:
        """Return the levels that hold requests, in the order in which a batch takes from them."""
        levels = [level for level in self._levels if len(level)]
        if self._num_taken % _RUNS_UNTIL_OLDEST == _RUNS_UNTIL_OLDEST - 1:
            levels.sort(key=lambda level: level.next.terms.queued_at)
        return [*levels, self._background]

    def _all_levels(self) -> list[FairQueue[PendingRequest]]:
        return [*self._levels, self._background]

    def _release(self, request: PendingRequest) -> None:
        if request.is_queued:
            request.is_queued = False
            self.steps -= request.extent.steps
            self._level_of(request).release(request.terms.flow, request.extent.steps)

    def _withdraw(self, request: PendingRequest) -> None:
        """Release a request that is not run; its flow is not charged for it."""
        if request.is_queued:
            self.refund(request)
            self._release(request)

    def _max_batch_steps(self) -> int:
        if not self._steps_per_s:
            return self._limits.max_batch_steps
        in_time = int(self._steps_per_s * self._limits.max_run_s)
        return min(self._limits.max_batch_steps, in_time)

    def _retry_after_s(self) -> int:
        wait = self.steps / self._steps_per_s if self._steps_per_s else 1.0
        return max(1, min(_LONGEST_RETRY_S, round(wait)))


def _make_levels(limits: BatchLimits) -> list[FairQueue[PendingRequest]]:
    return [FairQueue[PendingRequest]() for _ in range(max(1, limits.priority_levels))]


class _Batch:
    """The next batch, while it is gathered."""

    def __init__(self, limits: BatchLimits, max_steps: int, now: float) -> None:
        self.requests: list[PendingRequest] = []
        self.dropped: list[PendingRequest] = []
        self._limits = limits
        self._max_steps = max_steps
        self._now = now
        self._candidates = min(_MAX_CANDIDATES, _LOOK_AHEAD * limits.max_batch_size)
        self._rows = self._longest = self._real_steps = 0
        self._group: Hashable = None

    def fill(self, level: FairQueue[PendingRequest]) -> None:
        """Take what fits out of ``level``, and what needs no run any more."""
        share = self._limits.max_padding_share
        like_share = min(_LIKE_SHARE, share)
        others: list[Entry[PendingRequest]] = []
        while len(level) and self._candidates and not self._is_full():
            self._candidates -= 1
            entry = level.pop()
            request = entry[2]
            if not request.is_waiting or request.terms.deadline <= self._now:
                self.dropped.append(request)
            elif not self._take(level, entry, like_share):
                others.append(entry)
        rest = [
            entry for entry in others if self._is_half_full() or not self._take(level, entry, share)
        ]
        level.put_back(rest)

    def _take(
        self,
        level: FairQueue[PendingRequest],
        entry: Entry[PendingRequest],
        max_padding_share: float,
    ) -> bool:
        if not self._admit(entry[2].extent, max_padding_share):
            return False
        self.requests.append(entry[2])
        level.advance(entry)
        return True

    def _is_full(self) -> bool:
        is_alone = self._rows > 0 and self._group is None
        return is_alone or self._rows >= self._limits.max_batch_size

    def _is_half_full(self) -> bool:
        return 2 * self._rows >= self._limits.max_batch_size

    def _admit(self, extent: Extent, max_padding_share: float) -> bool:
        rows = self._rows + extent.rows
        longest = max(self._longest, extent.length)
        real_steps = self._real_steps + extent.real_steps
        padded = rows * longest
        fits = (
            rows <= self._limits.max_batch_size
            and padded <= self._max_steps
            and padded - real_steps <= max_padding_share * padded
            and extent.group is not None
            and extent.group == self._group
        )
        if self._rows and not fits:
            return False
        self._rows, self._longest, self._real_steps = rows, longest, real_steps
        self._group = extent.group
        return True
