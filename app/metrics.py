"""Every metric of the service.

Gateways and runners write to one directory (``PROMETHEUS_MULTIPROC_DIR``, set by the supervisor
before they start), and any gateway answers ``/metrics`` for all of them.
"""

import os

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_SHARES = (0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5)

REQUESTS = Counter(
    "gatecast_requests",
    "HTTP requests answered.",
    ["route", "model_name", "model_version", "status"],
)
REQUEST_DURATION = Histogram(
    "gatecast_request_duration_seconds",
    "From the first byte of a request to the last byte of its answer.",
    ["route", "model_name", "model_version"],
    buckets=_SECONDS,
)
SERIES = Counter(
    "gatecast_series",
    "Series asked for, by outcome.",
    ["model_name", "model_version", "outcome"],
)
QUEUE_REQUESTS = Gauge(
    "gatecast_queue_requests",
    "Requests that wait.",
    ["model_name", "model_version"],
    multiprocess_mode="livesum",
)
QUEUE_STEPS = Gauge(
    "gatecast_queue_steps",
    "Time steps that wait.",
    ["model_name", "model_version"],
    multiprocess_mode="livesum",
)
QUEUE_DURATION = Histogram(
    "gatecast_queue_duration_seconds", "Wait before a run.", ["model_name"], buckets=_SECONDS
)
QUEUE_DROPPED = Counter(
    "gatecast_queue_dropped",
    "Requests that left the queue without a run.",
    ["model_name", "reason"],
)
BATCH_ROWS = Histogram("gatecast_batch_rows", "Series in a run.", ["model_name"], buckets=_ROWS)
BATCH_SIZE_CAP = Gauge(
    "gatecast_batch_size_cap",
    "Most series in the next run, as the runs before it have shown.",
    ["model_name", "model_version"],
    multiprocess_mode="livemax",
)
BATCH_DURATION = Histogram(
    "gatecast_batch_duration_seconds", "Time of a run.", ["model_name"], buckets=_SECONDS
)
BATCH_PADDING_SHARE = Histogram(
    "gatecast_batch_padding_share",
    "Padding among the steps of a run.",
    ["model_name"],
    buckets=_SHARES,
)
MODEL_LOADS = Counter(
    "gatecast_model_loads", "Models loaded while serving, by outcome.", ["model_name", "outcome"]
)
SEQUENCES_OPEN = Gauge(
    "gatecast_sequences_open",
    "Sequences whose state is kept.",
    ["model_name"],
    multiprocess_mode="livesum",
)
SEQUENCES_EXPIRED = Counter(
    "gatecast_sequences_expired", "Sequences forgotten after their idle time.", ["model_name"]
)
STATE_CACHE_HITS = Counter(
    "gatecast_state_cache_hits", "Series of which a state was kept.", ["model_name"]
)
STATE_CACHE_MISSES = Counter(
    "gatecast_state_cache_misses", "Series that were run whole.", ["model_name"]
)
STATE_CACHE_SAVED_STEPS = Counter(
    "gatecast_state_cache_saved_steps", "Time steps that were not run again.", ["model_name"]
)
STATE_CACHE_BYTES = Gauge(
    "gatecast_state_cache_bytes",
    "Memory of the states that are kept.",
    ["model_name"],
    multiprocess_mode="livesum",
)
STATE_CACHE_ENTRIES = Gauge(
    "gatecast_state_cache_entries",
    "Histories of which the state is kept.",
    ["model_name"],
    multiprocess_mode="livesum",
)
RUNNER_RESTARTS = Counter(
    "gatecast_runner_restarts", "Runners that took a lost one's place.", ["runner"]
)
JOBS = Counter("gatecast_jobs", "Bulk jobs that have run to their end, by outcome.", ["outcome"])


def render_metrics() -> bytes:
    """Return the metrics of all processes in the Prometheus text format."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
