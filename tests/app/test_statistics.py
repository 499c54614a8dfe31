import pytest

from app.errors import (
    DeadlineExceededError,
    EngineError,
    GatecastError,
    InvalidInputError,
    ModelOutputError,
    OverloadedError,
    ShuttingDownError,
)
from app.statistics import FailureReason, VersionStatistics, failure_reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OverloadedError("full"), "REJECTED"),
        (DeadlineExceededError("late"), "REJECTED"),
        (ShuttingDownError("closing"), "REJECTED"),
        (EngineError("failed"), "BACKEND"),
        (ModelOutputError("not finite"), "BACKEND"),
        (InvalidInputError("wrong"), "OTHER"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_error_has_a_reason(error: GatecastError, reason: FailureReason) -> None:
    assert failure_reason(error) == reason


def test_failures_of_two_runners_are_summed_by_reason() -> None:
    total, other = VersionStatistics("monthly", 1), VersionStatistics("monthly", 1)
    total.record_failure(0.5, "REJECTED")
    other.record_failure(0.25, "REJECTED")
    other.record_failure(0.25, "BACKEND")
    other.pending_count = 3
    total.add(other)
    assert total.failures == {"REJECTED": 2, "BACKEND": 1}
    assert (total.fail.count, total.fail.ns, total.pending_count) == (3, 1_000_000_000, 3)
