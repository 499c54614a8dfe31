"""Requests that wait for one model: admission by work, and the choice of the next batch."""

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from app.errors import GatecastError, OverloadedError
from app.interface import Extent
from app.tensors import Tensors

_MAX_CANDIDATES = 512
_LONGEST_RETRY_S = 60


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


class PendingRequest:
    """Rows of one caller, answered exactly once: later answers are ignored."""

    __slots__ = (
        "_answer",
        "deadline",
        "extent",
        "inputs",
        "is_queued",
        "outputs",
        "queued_at",
    )

    def __init__(
        self,
        inputs: Tensors,
        outputs: Sequence[str],
        extent: Extent,
        *,
        deadline: float,
        queued_at: float,
        answer: Callable[[Tensors | GatecastError], None],
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.deadline = deadline
        self.queued_at = queued_at
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
    """First in, first out, except that requests of like length are taken along with the oldest.

    The oldest request is in every batch, so none waits for ever; others join it only while padding
    stays a small share of the run, so a short request is not held up by a long one that came after
    it.
    """

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._requests: deque[PendingRequest] = deque()
        self._steps_per_s = 0.0
        self.steps = 0

    def __len__(self) -> int:
        return len(self._requests)

    def put(self, request: PendingRequest) -> None:
        """Admit a request.

        Raises:
            OverloadedError: The work that waits already would exceed its bound.
        """
        if self.steps + request.extent.steps > self._limits.max_queue_steps and self._requests:
            raise OverloadedError("the queue of this model is full", self._retry_after_s())
        self._requests.append(request)
        request.is_queued = True
        self.steps += request.extent.steps

    def abandon(self, request: PendingRequest) -> None:
        """Forget a request whose caller has left; its work counts no more."""
        self._release(request)
        request.abandon()

    def is_full_batch(self) -> bool:
        """Whether waiting longer could not make the next batch larger."""
        rows = sum(request.extent.rows for request in self._requests if request.is_waiting)
        return rows >= self._limits.max_batch_size or self.steps >= self._limits.max_batch_steps

    def oldest_queued_at(self) -> float | None:
        """Return when the oldest request came, None where nothing waits."""
        return self._requests[0].queued_at if self._requests else None

    def take(self, now: float) -> tuple[list[PendingRequest], list[PendingRequest]]:
        """Take the next batch out of the queue, and apart from it what expired or was abandoned."""
        batch: list[PendingRequest] = []
        dropped: list[PendingRequest] = []
        passed: list[PendingRequest] = []
        budget = _Budget(self._limits, self._max_batch_steps())
        for _ in range(min(len(self._requests), _MAX_CANDIDATES)):
            request = self._requests.popleft()
            if not request.is_waiting or request.deadline <= now:
                dropped.append(request)
            elif budget.admit(request.extent):
                batch.append(request)
            else:
                passed.append(request)
                if budget.is_spent:
                    break
        self._requests.extendleft(reversed(passed))
        for request in (*batch, *dropped):
            self._release(request)
        return batch, dropped

    def clear(self) -> list[PendingRequest]:
        """Take everything out."""
        requests = list(self._requests)
        self._requests.clear()
        for request in requests:
            self._release(request)
        return requests

    def record_run(self, steps: int, seconds: float) -> None:
        """Learn the speed of the model from a run."""
        speed = steps / max(seconds, 1e-6)
        self._steps_per_s += (speed - self._steps_per_s) * (0.1 if self._steps_per_s else 1.0)

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


class _Budget:
    """What one batch may still take."""

    def __init__(self, limits: BatchLimits, max_steps: int) -> None:
        self._limits = limits
        self._max_steps = max_steps
        self._rows = self._longest = self._real_steps = 0
        self._group: Hashable = None

    @property
    def is_spent(self) -> bool:
        return self._rows > 0 and (self._group is None or self._rows >= self._limits.max_batch_size)

    def admit(self, extent: Extent) -> bool:
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
