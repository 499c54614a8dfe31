"""Merges concurrent requests to one model into single engine runs."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Self

from app.errors import (
    DeadlineExceededError,
    DeviceLostError,
    EngineError,
    GatecastError,
    ModelNotReadyError,
    ModelOutputError,
    OutOfMemoryError,
    OverloadedError,
    PayloadTooLargeError,
    ShuttingDownError,
)
from app.runner.batch_metrics import BatchMetrics
from app.runner.buckets import Buckets
from app.runner.engine import Engine
from app.runner.merging import merge, split
from app.runner.pace import Pace
from app.runner.queue import BatchLimits, PendingRequest, RequestQueue
from app.statistics import RunTimes, VersionStatistics, failure_reason
from app.tensors import Tensors

_BREATH_S = 0.001
"""Between the parts of a batch, for a beat: together they may take longer than one run may."""

logger = logging.getLogger(__name__)


class DynamicBatcher:
    """Runs what waits for one model, in batches of ragged rows.

    While one batch runs, the next one gathers. Every request is answered exactly once, with its own
    rows or with the error of the run that held them. Inputs must have been checked before they come
    here.

    Args:
        engine: Runs the batches.
        limits: Bounds of a run and of the queue.
        model_name: Label of the metrics and the statistics.
        model_version: The same.
        executor: Where runs happen; None runs in the event loop's own thread, which on a CPU is
            faster than handing the interpreter lock over, and lets frames gather in the sockets
            meanwhile.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        engine: Engine,
        limits: BatchLimits,
        *,
        model_name: str,
        model_version: int = 1,
        executor: Executor | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runs: set[asyncio.Task[None]] = set()
        self._begun: list[float] = []
        self._drained_at: float | None = None
        self._ended_at = 0.0
        self.statistics = VersionStatistics(model_name, model_version)
        """What it adds to; to go on with older counts, put them in its place before it runs."""
        self.lost: Callable[[], None] = lambda: None
        """Called when nothing can be run any more in this process."""
        self._engine = engine
        self._interface = engine.interface
        self._limits = limits
        self._buckets = self._make_buckets()
        self._executor = executor
        self._clock = clock
        self._queue = RequestQueue(limits)
        self._pace = Pace(self._interface, clock)
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._worker: asyncio.Task[None] | None = None
        self._is_draining = False
        self._is_closed = False
        self._metrics = BatchMetrics(model_name, str(model_version))

    async def __aenter__(self) -> Self:
        self._worker = asyncio.create_task(self._work(), name="batcher")
        self._worker.add_done_callback(self._check_ended)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_draining = self._is_closed = True
        worker, self._worker = self._worker, None
        if worker is not None:
            workers = [worker, *self._runs]
            for one in workers:
                one.cancel()
            await asyncio.wait(workers)
        self._fail(self._queue.clear(), ShuttingDownError("the runner is shutting down"))

    @property
    def running_since(self) -> float | None:
        """When the oldest run that is under way began; None where there is none."""
        return min(self._begun, default=None)

    def change_limits(self, limits: BatchLimits) -> None:
        """Go on within other bounds; the run under way and what waits are not touched."""
        self._limits = limits
        self._buckets = self._make_buckets()
        self._queue.change_limits(limits)

    @property
    def max_batch_size(self) -> int:
        """Most rows of the next run, if no request has more."""
        return self._queue.max_batch_size

    def submit(self, request: PendingRequest) -> None:
        """Queue a request, whose ``answer`` will be called exactly once.

        Raises:
            DeadlineExceededError: Its deadline has passed.
            OverloadedError: The queue is full.
            ShuttingDownError: The batcher drains or is closed.
        """
        self.check_open()
        self.resume(request)

    def check_open(self) -> None:
        """Check that new requests are taken.

        Raises:
            ShuttingDownError: The batcher drains or is closed.
        """
        if self._is_draining:
            raise ShuttingDownError("the runner is shutting down")

    def resume(self, request: PendingRequest) -> None:
        """Queue as ``submit`` what was admitted before and waited for another request.

        To drain is to answer it too.

        Raises:
            DeadlineExceededError: Its deadline has passed.
            OverloadedError: The queue is full.
            ShuttingDownError: The batcher is closed.
        """
        if self._is_closed:
            raise ShuttingDownError("the runner is shutting down")
        if request.terms.deadline <= self._clock():
            raise DeadlineExceededError("the deadline passed before the model ran")
        self._queue.put(request)
        self._idle.clear()
        self._arrived.set()

    def abandon(self, request: PendingRequest) -> None:
        """Forget a request whose caller has left; it will not run if it has not begun."""
        self._queue.abandon(request)

    def read_statistics(self) -> VersionStatistics:
        """Return what was done, and how much waits now."""
        self.statistics.pending_count = len(self._queue)
        return self.statistics

    async def drain(self) -> None:
        """Refuse new requests and wait until those in the queue are answered."""
        self._is_draining = True
        await self._idle.wait()

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            await self._gather()
            self._metrics.observe_queue(self._queue)
            batch, dropped = self._queue.take(self._clock())
            self._drop(dropped)
            if batch:
                await (self._run(batch) if self._limits.num_slots == 1 else self._begin(batch))
            self._metrics.observe_queue(self._queue)
            if not len(self._queue):
                self._arrived.clear()
                self._rest()

    def _rest(self) -> None:
        if not len(self._queue) and not self._runs:
            self._idle.set()

    async def _begin(self, batch: list[PendingRequest]) -> None:
        """Begin a run; return once another one may begin."""
        run = asyncio.create_task(self._run(batch))
        self._runs.add(run)
        run.add_done_callback(partial(self._end, batch))
        if len(self._runs) >= self._limits.num_slots:
            await asyncio.wait(self._runs, return_when=asyncio.FIRST_COMPLETED)

    def _end(self, batch: Sequence[PendingRequest], run: asyncio.Task[None]) -> None:
        self._runs.discard(run)
        self._check_ended(run)
        if run.cancelled():  # perhaps before its first step
            waiting = [request for request in batch if request.is_waiting]
            self._fail(waiting, ShuttingDownError("the runner is shutting down"))
        self._rest()

    def _check_ended(self, task: asyncio.Task[None]) -> None:
        """End the process where a task of this batcher failed: its requests would wait for ever."""
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.critical("the batcher failed", exc_info=error)
            self.lost()

    async def _gather(self) -> None:
        # The worker's own wake-up stands before the sockets' in the loop's queue: only the second
        # turn has read them.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        delay = self._limits.max_queue_delay_s
        while delay and not self._queue.is_full_batch():
            oldest = self._queue.oldest_queued_at()
            remaining = 0.0 if oldest is None else oldest + delay - self._clock()
            if remaining <= 0:
                return
            await asyncio.sleep(min(remaining, 0.001))

    async def _run(self, batch: list[PendingRequest]) -> None:
        merged_at = self._clock()
        inputs = merge([request.inputs for request in batch], self._interface)
        outputs = sorted({name for request in batch for name in request.outputs})
        merging_s, begun = self._clock() - merged_at, list[float]()
        drained_at, self._drained_at = self._drained_at, None
        try:
            results = await self._infer(inputs, outputs, begun, self._longest_run_s(batch))
        except asyncio.CancelledError:
            self._fail(batch, ShuttingDownError("the runner is shutting down"))
            raise
        except (EngineError, PayloadTooLargeError) as error:
            await self._recover(batch, error)
            return
        except Exception:
            logger.exception("run of %d requests failed", len(batch))
            self._fail(batch, EngineError("the model run failed"))
            return
        finally:
            self._metrics.observe_wait(batch, begun[0] if begun else self._clock())
        started, ended = begun[0], self._clock()
        steps = sum(request.extent.steps for request in batch)
        self._queue.record_run(steps, ended - started)
        self._pace.record(inputs, started=started, ended=ended)
        if drained_at is not None:  # since then, others waited for this run alone
            num_rows = sum(request.extent.rows for request in batch)
            self._queue.record_drain(num_rows, steps, ended - max(drained_at, self._ended_at))
        self._ended_at = ended
        self._drained_at = ended if len(self._queue) else None
        self._metrics.observe_run(batch, ended - started)
        rows = split([request.extent for request in batch], results, self._interface)
        for request, own in zip(batch, rows, strict=True):
            request.answer({name: own[name] for name in request.outputs})
        self._account(batch, (started - merging_s, started, ended, self._clock()))

    def _longest_run_s(self, batch: Sequence[PendingRequest]) -> float:
        """Return how long a run may take; what shares with nobody is always run as it is."""
        return math.inf if batch[0].extent.group is None else self._limits.longest_run_s

    async def _recover(
        self, batch: list[PendingRequest], error: EngineError | PayloadTooLargeError
    ) -> None:
        logger.warning("run of %d requests failed: %s", len(batch), error)
        if isinstance(error, DeviceLostError):
            self.lost()
        if not isinstance(error, ModelOutputError | PayloadTooLargeError) or len(batch) == 1:
            if isinstance(error, PayloadTooLargeError):
                self._queue.refund(batch[0])
            self._fail(batch, _for_callers(error))
            return
        waiting = list(batch)  # one caller's extreme request is no fault of the others
        try:
            while waiting:
                await self._run([waiting.pop(0)])
        except asyncio.CancelledError:
            self._fail(waiting, ShuttingDownError("the runner is shutting down"))
            raise

    def _drop(self, requests: Sequence[PendingRequest]) -> None:
        self._metrics.observe_dropped(requests)
        now = self._clock()
        for request in filter(_is_counted, requests):
            self.statistics.queue.record(now - request.terms.queued_at)
        self._fail(requests, DeadlineExceededError("the deadline passed before the model ran"))

    def _fail(self, requests: Sequence[PendingRequest], error: GatecastError) -> None:
        now = self._clock()
        for request in requests:
            # who has left is not there to be answered
            reason = failure_reason(error) if request.is_waiting else "CANCELED"
            if request.is_counted:
                self.statistics.record_failure(now - request.terms.queued_at, reason)
            request.answer(error)

    def _account(
        self, batch: Sequence[PendingRequest], times: tuple[float, float, float, float]
    ) -> None:
        """Add a run; ``times`` are those of its merging, its start, its end and its answers."""
        merged_at, started, ended, answered = times
        rows, statistics = sum(request.extent.rows for request in batch), self.statistics
        seconds = (started - merged_at, ended - started, answered - ended)
        statistics.last_inference_ms = int(time.time() * 1000)
        statistics.inference_count += rows
        statistics.execution_count += 1
        counted = list(filter(_is_counted, batch))
        statistics.requests.record(seconds, count=len(counted))
        statistics.batches.setdefault(rows, RunTimes()).record(seconds, count=1)
        for request in counted:
            statistics.queue.record(merged_at - request.terms.queued_at)
            statistics.success.record(answered - request.terms.queued_at)

    async def _infer(
        self, inputs: Tensors, outputs: Sequence[str], begun: list[float], longest_s: float
    ) -> Tensors:
        """Run a batch; where it has no room or would take too long, in halves, down to rows."""
        try:
            await self._pace.check(inputs, partial(self._time_engine, outputs=outputs), longest_s)
            return await self._run_engine(inputs, outputs, begun)
        except (OutOfMemoryError, PayloadTooLargeError) as error:
            rows = self._interface.rows_of(inputs)
            if rows == 1 or not self._interface.is_mergeable:
                raise
            logger.warning("running %d rows in two parts: %s", rows, error)
        middle = rows // 2
        parts: list[Tensors] = []
        for start, stop in ((0, middle), (middle, rows)):
            await asyncio.sleep(_BREATH_S)
            part = self._interface.slice_rows(inputs, start, stop)
            parts.append(await self._infer(part, outputs, begun, longest_s))
        return self._interface.join_rows(parts)

    async def _time_engine(self, inputs: Tensors, outputs: Sequence[str]) -> float:
        """Run, and return the seconds that it took."""
        begun: list[float] = []
        await self._run_engine(inputs, outputs, begun)
        return self._clock() - begun[0]

    async def _run_engine(
        self, inputs: Tensors, outputs: Sequence[str], begun: list[float]
    ) -> Tensors:
        run = (
            self._engine.run if self._buckets is None else partial(self._run_padded, self._buckets)
        )
        watched = partial(self._watch, partial(run, inputs, outputs), begun)
        if self._executor is None:
            return watched()
        return await asyncio.get_running_loop().run_in_executor(self._executor, watched)

    def _watch(self, run: Callable[[], Tensors], begun: list[float]) -> Tensors:
        """Run, where that happens: what waits there for runs of other models has not begun."""
        started = self._clock()
        begun.append(started)
        self._begun.append(started)
        try:
            return run()
        finally:
            self._begun.remove(started)

    def _run_padded(self, buckets: Buckets, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        return buckets.cut(self._engine.run(buckets.pad(inputs), outputs), inputs)

    def _make_buckets(self) -> Buckets | None:
        if not self._limits.has_buckets or not Buckets.fit(self._interface):
            return None
        return Buckets(self._interface, self._limits.max_batch_size)


def _for_callers(error: EngineError | PayloadTooLargeError) -> GatecastError:
    """Return what is worth trying again as such an error."""
    if isinstance(error, OutOfMemoryError):
        return OverloadedError("the model run needs more memory than there is now")
    if isinstance(error, DeviceLostError):
        return ModelNotReadyError("the device was lost; the runner is being replaced")
    return error


def _is_counted(request: PendingRequest) -> bool:
    return request.is_counted
