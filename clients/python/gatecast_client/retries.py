"""When to try again, and after how long."""

import email.utils
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx

_RETRIED_STATUSES = frozenset({429, 502, 503})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """A forecast changes nothing, so it may be asked for again.

    After 429, 502, 503 and broken connections the call is repeated: after ``Retry-After`` where the
    service says so, else after ``backoff_s``, doubled each time, give or take a quarter.

    Attributes:
        max_attempts: Most calls in all; 1 never tries again.
        backoff_s: First wait without ``Retry-After``.
        max_wait_s: Longest single wait; a longer ``Retry-After`` ends the attempts.
    """

    max_attempts: int = 5
    backoff_s: float = 0.25
    max_wait_s: float = 30.0
    jitter: Callable[[], float] = random.random

    def wait_after_answer(self, attempt: int, answer: httpx.Response) -> float | None:
        """Return the seconds until the next attempt, or None for none; attempts count from 1."""
        if answer.status_code not in _RETRIED_STATUSES or attempt >= self.max_attempts:
            return None
        asked = parse_retry_after(answer.headers.get("retry-after"))
        if asked is None:
            return self._backoff(attempt)
        return asked if asked <= self.max_wait_s else None

    def wait_after_error(self, attempt: int, error: httpx.TransportError) -> float | None:
        """Return the seconds until the next attempt; what took too long is not repeated."""
        is_slow = isinstance(error, httpx.TimeoutException)
        if attempt >= self.max_attempts or (
            is_slow and not isinstance(error, httpx.ConnectTimeout)
        ):
            return None
        return self._backoff(attempt)

    def _backoff(self, attempt: int) -> float:
        wait = self.backoff_s * 2.0 ** (attempt - 1) * (0.75 + 0.5 * self.jitter())
        return min(wait, self.max_wait_s)


def parse_retry_after(value: str | None) -> float | None:
    """Read a ``Retry-After`` header, seconds or a date; None where there is no sound one."""
    if not value:
        return None
    if value.isdecimal():
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, when.timestamp() - time.time())
