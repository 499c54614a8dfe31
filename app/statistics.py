"""What a model version has done since the service started: exact counts, times in nanoseconds.

A runner adds to them, a gateway sums them over the runners. They are messages of the wire as well,
and on file for the runner that takes a lost one's place.
"""

from pathlib import Path
from typing import Literal

import msgspec

from app.errors import (
    DeadlineExceededError,
    EngineError,
    GatecastError,
    OverloadedError,
    ShuttingDownError,
)

FailureReason = Literal["REJECTED", "CANCELED", "BACKEND", "OTHER"]
"""Triton's words: refused or expired in the queue, left by its caller, failed in the run, other."""

_NS_PER_S = 1_000_000_000


class Duration(msgspec.Struct, array_like=True):
    """How often something was done, and how long all of it took together."""

    count: int = 0
    ns: int = 0

    def record(self, seconds: float, *, count: int = 1) -> None:
        """Add ``count`` times that took ``seconds`` each."""
        self.count += count
        self.ns += count * max(0, round(seconds * _NS_PER_S))

    def add(self, other: "Duration") -> None:
        """Add what another runner did."""
        self.count += other.count
        self.ns += other.ns


class RunTimes(msgspec.Struct, array_like=True, frozen=True):
    """The three parts of model runs: joining the rows, running the model, giving rows back."""

    compute_input: Duration = msgspec.field(default_factory=Duration)
    compute_infer: Duration = msgspec.field(default_factory=Duration)
    compute_output: Duration = msgspec.field(default_factory=Duration)

    def record(self, seconds: tuple[float, float, float], *, count: int) -> None:
        """Add ``count`` runs, or shares in one, of the same three times."""
        durations = (self.compute_input, self.compute_infer, self.compute_output)
        for duration, one in zip(durations, seconds, strict=True):
            duration.record(one, count=count)

    def add(self, other: "RunTimes") -> None:
        """Add what another runner did."""
        self.compute_input.add(other.compute_input)
        self.compute_infer.add(other.compute_infer)
        self.compute_output.add(other.compute_output)


class VersionStatistics(msgspec.Struct, array_like=True):
    """Statistics of one version of a model.

    Attributes:
        last_inference_ms: Time of the last request that was run, in milliseconds since 1970.
        inference_count: Rows that were run.
        execution_count: Model runs.
        success: Requests with an answer, from their arrival to it.
        fail: Requests without one.
        failures: The same, by reason.
        pending_count: Requests that waited for a run when the statistics were read.
        queue: Waits of requests before their run, or before they were dropped.
        requests: Times of the runs, counted once for each request in them.
        batches: Times of the runs, counted once for each run, by their number of rows.
    """

    model_name: str
    model_version: int
    last_inference_ms: int = 0
    inference_count: int = 0
    execution_count: int = 0
    success: Duration = msgspec.field(default_factory=Duration)
    fail: Duration = msgspec.field(default_factory=Duration)
    queue: Duration = msgspec.field(default_factory=Duration)
    requests: RunTimes = msgspec.field(default_factory=RunTimes)
    batches: dict[int, RunTimes] = msgspec.field(default_factory=dict)
    failures: dict[FailureReason, int] = msgspec.field(default_factory=dict)
    pending_count: int = 0

    def record_failure(self, seconds: float, reason: FailureReason) -> None:
        """Add a request that got no answer within ``seconds`` of its arrival."""
        self.fail.record(seconds)
        self.failures[reason] = self.failures.get(reason, 0) + 1

    def add(self, other: "VersionStatistics") -> None:
        """Add what another runner did with the same version."""
        self.last_inference_ms = max(self.last_inference_ms, other.last_inference_ms)
        self.inference_count += other.inference_count
        self.execution_count += other.execution_count
        self.success.add(other.success)
        self.fail.add(other.fail)
        self.queue.add(other.queue)
        self.requests.add(other.requests)
        for rows, times in other.batches.items():
            self.batches.setdefault(rows, RunTimes()).add(times)
        for reason, count in other.failures.items():
            self.failures[reason] = self.failures.get(reason, 0) + count
        self.pending_count += other.pending_count


class KeptStatistics(msgspec.Struct, array_like=True, frozen=True):
    """What a runner has on file: of what it served, and of versions that it served before."""

    served: list[VersionStatistics] = []
    freed: list[VersionStatistics] = []


def statistics_file(socket: Path) -> Path:
    """Return the file of the runner at ``socket``; it outlives the runner."""
    return socket.with_suffix(".counts")


def load_statistics(path: Path) -> KeptStatistics:
    """Read what a runner has on file, if it has any; nothing waits for a runner that is lost."""
    try:
        kept = msgspec.msgpack.decode(path.read_bytes(), type=KeptStatistics)
    except FileNotFoundError:
        return KeptStatistics()
    for one in (*kept.served, *kept.freed):
        one.pending_count = 0
    return kept


def failure_reason(error: GatecastError) -> FailureReason:
    """Return the reason for which ``error`` counts."""
    if isinstance(error, OverloadedError | DeadlineExceededError | ShuttingDownError):
        return "REJECTED"
    return "BACKEND" if isinstance(error, EngineError) else "OTHER"
