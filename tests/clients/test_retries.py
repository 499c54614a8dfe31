import datetime as dt
import email.utils

import httpx
import pytest

from gatecast_client import RetryPolicy
from gatecast_client.retries import parse_retry_after

POLICY = RetryPolicy(max_attempts=3, backoff_s=1, max_wait_s=10, jitter=lambda: 0.5)


def answer(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(status, headers={k.replace("_", "-"): v for k, v in headers.items()})


@pytest.mark.parametrize("status", [429, 502, 503])
def test_passing_failures_are_asked_again(status: int) -> None:
    assert POLICY.wait_after_answer(1, answer(status)) == 1


@pytest.mark.parametrize("status", [200, 400, 401, 404, 413, 422, 500, 504])
def test_other_answers_are_final(status: int) -> None:
    assert POLICY.wait_after_answer(1, answer(status, retry_after="1")) is None


def test_retry_after_is_honoured() -> None:
    assert POLICY.wait_after_answer(1, answer(503, retry_after="7")) == 7


def test_retry_after_beyond_patience_is_final() -> None:
    assert POLICY.wait_after_answer(1, answer(503, retry_after="11")) is None


def test_waits_double_up_to_their_limit() -> None:
    policy = RetryPolicy(max_attempts=9, backoff_s=1, max_wait_s=5, jitter=lambda: 0.5)
    waits = [policy.wait_after_answer(attempt, answer(503)) for attempt in range(1, 6)]
    assert waits == [1, 2, 4, 5, 5]


def test_attempts_end() -> None:
    assert POLICY.wait_after_answer(3, answer(503)) is None
    assert POLICY.wait_after_error(3, httpx.ConnectError("refused")) is None


@pytest.mark.parametrize(
    "kind", [httpx.ConnectError, httpx.ConnectTimeout, httpx.ReadError, httpx.RemoteProtocolError]
)
def test_broken_connection_is_made_again(kind: type[httpx.TransportError]) -> None:
    assert POLICY.wait_after_error(2, kind("broken")) == 2


def test_silence_is_final() -> None:
    assert POLICY.wait_after_error(1, httpx.ReadTimeout("slow")) is None


@pytest.mark.parametrize("value", [None, "", "soon", "-1", "1.5"])
def test_unsound_header_is_none(value: str | None) -> None:
    assert parse_retry_after(value) is None


def test_header_may_be_a_date() -> None:
    later = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=60)
    found = parse_retry_after(email.utils.format_datetime(later, usegmt=True))
    assert found is not None
    assert 0 < found <= 60
    assert parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
