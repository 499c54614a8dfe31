"""Triton's metrics by their own names, so that dashboards and tools made for it work.

They come from the exact statistics of the runners, of which the text of prometheus_client would
change the names: its counters end in ``_total``.
"""

from collections.abc import Iterable, Sequence

from app.statistics import FailureReason, VersionStatistics

_NS_PER_US = 1000
_REASONS: tuple[FailureReason, ...] = ("REJECTED", "CANCELED", "BACKEND", "OTHER")
_COUNTERS = {
    "nv_inference_request_success": "Requests with an answer.",
    "nv_inference_count": "Rows that were run.",
    "nv_inference_exec_count": "Model runs.",
    "nv_inference_request_duration_us": "Time of requests with an answer, in microseconds.",
    "nv_inference_queue_duration_us": "Wait of requests before a run, in microseconds.",
    "nv_inference_compute_input_duration_us": "Joining of rows, in microseconds.",
    "nv_inference_compute_infer_duration_us": "Model runs, in microseconds.",
    "nv_inference_compute_output_duration_us": "Giving rows back, in microseconds.",
}
_FAILURE = "nv_inference_request_failure"
_PENDING = "nv_inference_pending_request_count"

TRITON_METRICS = frozenset({*_COUNTERS, _FAILURE, _PENDING})


def render_triton_metrics(found: Sequence[VersionStatistics]) -> bytes:
    """Write the statistics in the Prometheus text format, all numbers as plain integers."""
    counts = [(_labels(one), _counts(one)) for one in found]
    lines: list[str] = []
    for name, description in _COUNTERS.items():
        samples = [(labels, values[name]) for labels, values in counts]
        lines += _family(name, "counter", description, samples)
    failures = [
        (f'{_labels(one)},reason="{reason}"', one.failures.get(reason, 0))
        for one in found
        for reason in _REASONS
    ]
    lines += _family(_FAILURE, "counter", "Requests without an answer.", failures)
    pending = [(_labels(one), one.pending_count) for one in found]
    lines += _family(_PENDING, "gauge", "Requests that wait.", pending)
    return "".join(f"{line}\n" for line in lines).encode()


def _family(
    name: str, kind: str, description: str, samples: Iterable[tuple[str, int]]
) -> list[str]:
    head = [f"# HELP {name} {description}", f"# TYPE {name} {kind}"]
    return head + [f"{name}{{{labels}}} {value}" for labels, value in samples]


def _labels(one: VersionStatistics) -> str:
    return f'model="{one.model_name}",version="{one.model_version}"'


def _counts(one: VersionStatistics) -> dict[str, int]:
    durations = {
        "request": one.success,
        "queue": one.queue,
        "compute_input": one.requests.compute_input,
        "compute_infer": one.requests.compute_infer,
        "compute_output": one.requests.compute_output,
    }
    return {
        "nv_inference_request_success": one.success.count,
        "nv_inference_count": one.inference_count,
        "nv_inference_exec_count": one.execution_count,
        **{
            f"nv_inference_{name}_duration_us": duration.ns // _NS_PER_US
            for name, duration in durations.items()
        },
    }
