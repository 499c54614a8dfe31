"""Answers requests of flows that are refused now before the application sees them.

Under a flood most of what a gateway does is to refuse, and whatever that costs is taken from the
answers. Here a request is refused from its headers, without a task and without reading its body;
what is not plainly one of a paused flow goes on to the application, which judges as always.
"""

import re
from collections.abc import Sequence
from typing import Any, cast

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from app.errors import OverloadedError, UnauthorizedError
from app.gateway.access import identify
from app.gateway.drain import Drain
from app.gateway.edge import SAFE_HEADERS
from app.gateway.exchange import EXCHANGE_KEY, Exchange, choose_request_id
from app.gateway.pauses import Flow, Pauses
from app.gateway.problems import problem_response
from app.gateway.tally import Tally
from app.gateway.whole_answers import WholeAnswerProtocol, to_lines
from app.keys import KeyRing
from app.logs import REQUEST_ID

_HOT_PATH = re.compile(
    rb"/(?:v1/models/([A-Za-z0-9._-]+)(?:/versions/[A-Za-z0-9._-]+)?"
    rb"/(?:forecast|classify|regress|tag)"
    rb"|v2/models/([A-Za-z0-9._-]+)(?:/versions/[A-Za-z0-9._-]+)?/infer)"
)
_PRIORITY = b'"priority"'
_ENCODING = b"content-encoding"
_MOST_HELD_BYTES = 2**16
_MOST_WRITTEN = 256
_SOME_ID = b"\0" * 32
"""Stands for the id of a request in an answer that is kept for the next ones."""
_REQUEST_ID = b"x-request-id"


class Turnstile:
    """Says which requests are refused at once, and how.

    Args:
        pauses: The flows that are refused now.
        key_ring: The keys; None where everything is open.
        drain: A gateway that drains leaves all of it to the application.
        access_log: Whether to log what is refused, once a second.
    """

    def __init__(
        self, pauses: Pauses, key_ring: KeyRing | None, drain: Drain, *, access_log: bool
    ) -> None:
        self._pauses = pauses
        self._key_ring = key_ring
        self._drain = drain
        self._tally = Tally(access_log=access_log)
        self._written: dict[tuple[str, Flow], tuple[OverloadedError, bytes, int]] = {}

    def find_refusal(
        self, url: bytes, headers: Sequence[tuple[bytes, bytes]]
    ) -> tuple[Flow, OverloadedError] | None:
        """Return why a request is refused; None where it may pass."""
        if not self._pauses.is_any or self._drain.is_draining:
            return None
        match = _HOT_PATH.fullmatch(url)
        if match is None:
            return None
        try:
            caller = self._identify(headers)
        except UnauthorizedError:
            return None
        flow = Flow((match[1] or match[2]).decode(), caller)
        reason = self._pauses.reason_of(flow)
        return (flow, reason) if reason is not None else None

    def answer(self, path: str, flow: Flow, error: OverloadedError, request_id: str) -> bytes:
        """Write the refusal of a request, and count it."""
        written_for, answer, num_bytes = self._written.get((path, flow), (None, b"", 0))
        if written_for is not error or len(request_id) != len(_SOME_ID):
            answer, num_bytes = _write(path, error, request_id)
            if len(self._written) == _MOST_WRITTEN:
                self._written.clear()
            if len(request_id) == len(_SOME_ID):
                of_any = answer.replace(request_id.encode(), _SOME_ID)
                self._written[path, flow] = error, of_any, num_bytes
        else:
            answer = answer.replace(_SOME_ID, request_id.encode())
        self._tally.count(path, flow, num_bytes)
        return answer

    def _identify(self, headers: Sequence[tuple[bytes, bytes]]) -> str:
        if self._key_ring is None:
            return ""
        return identify(dict(reversed(headers)), self._key_ring).key_id


def _write(path: str, error: OverloadedError, request_id: str) -> tuple[bytes, int]:
    """Return a refusal, and how long its body is."""
    exchange = Exchange("POST", request_id, {})
    token = REQUEST_ID.set(request_id)
    response = problem_response({"path": path, EXCHANGE_KEY: exchange}, error)
    REQUEST_ID.reset(token)
    headers = [*response.raw_headers, *SAFE_HEADERS.items()]
    headers.append((b"x-request-id", request_id.encode()))
    body = bytes(response.body)
    return STATUS_LINE[response.status_code] + to_lines(headers) + b"\r\n" + body, len(body)


class TurnstileProtocol(WholeAnswerProtocol):
    """An HTTP/1.1 connection behind a turnstile, which a subclass sets."""

    turnstile: Turnstile | None = None
    refusal: tuple[Flow, OverloadedError] | None = None
    """Of the request whose body comes in, to be thrown away."""
    unfinished_bytes = 0
    """How much has come since something was complete: a message, its headers or a piece of body."""
    _held = b""

    @override
    def on_headers_complete(self) -> None:
        self.refusal = self._find_refusal()
        self._held = b""
        if self.refusal is None:
            super().on_headers_complete()

    @override
    def on_body(self, body: bytes) -> None:
        self.unfinished_bytes = 0
        if self.refusal is None:
            super().on_body(body)
            return
        if self._is_of_tensors():  # only in its body may it say that it is urgent
            self._held += body
            if len(self._held) > _MOST_HELD_BYTES:
                self._let_pass()

    @override
    def on_message_complete(self) -> None:
        if self.refusal is not None and _PRIORITY in self._held:
            self._let_pass()
        if self.refusal is None:
            super().on_message_complete()
            return
        self._refuse_at_once(*self.refusal)
        self.refusal = None

    def _find_refusal(self) -> tuple[Flow, OverloadedError] | None:
        parser = cast("Any", self.parser)  # never None while it parses
        if self.turnstile is None or parser.get_method() != b"POST":
            return None
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None before the first request
        is_busy = cycle is not None and not cycle.response_complete
        is_plain = parser.get_http_version() == "1.1" and parser.should_keep_alive()
        if is_busy or not is_plain or self.expect_100_continue:
            return None
        refusal = self.turnstile.find_refusal(self.url, self.headers)
        return None if refusal is not None and self._may_hide_priority() else refusal

    def _may_hide_priority(self) -> bool:
        return self._is_of_tensors() and any(name == _ENCODING for name, _ in self.headers)

    def _is_of_tensors(self) -> bool:
        return self.url.startswith(b"/v2/")

    def _let_pass(self) -> None:
        self.refusal = None
        super().on_headers_complete()
        super().on_body(self._held)
        self._held = b""

    def _refuse_at_once(self, flow: Flow, error: OverloadedError) -> None:
        turnstile = cast("Turnstile", self.turnstile)
        given = next((value for name, value in self.headers if name == _REQUEST_ID), b"")
        request_id = choose_request_id(given)
        self.transport.write(turnstile.answer(self.url.decode("ascii"), flow, error, request_id))
        self.on_response_complete()
