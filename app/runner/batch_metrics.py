"""The metrics of one version's queue and runs."""

from collections.abc import Sequence

from app import metrics
from app.runner.queue import PendingRequest, RequestQueue


class BatchMetrics:
    """The metrics of one version, with their labels looked up once."""

    def __init__(self, model_name: str, model_version: str) -> None:
        self._queue_requests = metrics.QUEUE_REQUESTS.labels(model_name, model_version)
        self._queue_steps = metrics.QUEUE_STEPS.labels(model_name, model_version)
        self._queue_duration = metrics.QUEUE_DURATION.labels(model_name)
        self._expired = metrics.QUEUE_DROPPED.labels(model_name, "deadline")
        self._abandoned = metrics.QUEUE_DROPPED.labels(model_name, "abandoned")
        self._size_cap = metrics.BATCH_SIZE_CAP.labels(model_name, model_version)
        self._rows = metrics.BATCH_ROWS.labels(model_name)
        self._duration = metrics.BATCH_DURATION.labels(model_name)
        self._padding_share = metrics.BATCH_PADDING_SHARE.labels(model_name)

    def observe_queue(self, queue: RequestQueue) -> None:
        """Tell what waits."""
        self._queue_requests.set(len(queue))
        self._queue_steps.set(queue.steps)
        self._size_cap.set(queue.max_batch_size)

    def observe_dropped(self, requests: Sequence[PendingRequest]) -> None:
        """Tell of requests that were taken out and not run."""
        for request in requests:
            (self._expired if request.is_waiting else self._abandoned).inc()

    def observe_wait(self, batch: Sequence[PendingRequest], started: float) -> None:
        """Tell how long those of a run have waited for it."""
        for request in batch:
            self._queue_duration.observe(started - request.terms.queued_at)

    def observe_run(self, batch: Sequence[PendingRequest], seconds: float) -> None:
        """Tell of a run that ended."""
        rows = sum(request.extent.rows for request in batch)
        padded = rows * max(request.extent.length for request in batch)
        self._rows.observe(rows)
        self._duration.observe(seconds)
        self._padding_share.observe(
            1 - sum(request.extent.real_steps for request in batch) / padded
        )
