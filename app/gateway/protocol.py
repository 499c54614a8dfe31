"""uvicorn's HTTP/1.1 connection, with bounds on what a caller may send beside bodies.

httptools has no cap on headers and trailers, and uvicorn waits for ever for a request that never
comes.
"""

import asyncio
import json
from typing import cast

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from app.gateway.turnstile import Turnstile, TurnstileProtocol

MAX_HEADER_BYTES = 32 * 2**10

_LINGER_S = 2.0


class _HeadersTooLargeError(Exception):
    """Ends the parsing of a request; uvicorn then calls ``send_400_response``."""


class BoundedHttpProtocol(TurnstileProtocol):
    """Ends connections whose headers or trailers are too large, or whose headers do not arrive.

    The body of a request that is refused at once has a time limit here; the application bounds
    the others. A subclass sets the limits: uvicorn makes the instances itself.
    """

    header_timeout_s = 15.0
    body_timeout_s = 30.0

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))
        self._most_header_bytes = 0
        self._is_waiting = True  # for headers, the first ones or those after a message
        self._is_refused = False
        self._timer: asyncio.TimerHandle | None = None
        self._expect(self.header_timeout_s)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_expecting()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        self.unfinished_bytes += len(data)
        self._most_header_bytes = self.unfinished_bytes
        super().data_received(data)
        if self.unfinished_bytes > MAX_HEADER_BYTES:
            self._refuse(431, "headers-too-large", "the request's headers are too large")
        elif self._timer is None:  # most requests come whole, and need no timer
            if self.refusal is not None:
                self._expect(self.body_timeout_s)
            elif self._is_waiting and self.unfinished_bytes:
                self._expect(self.header_timeout_s)

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.unfinished_bytes += 1  # none is counted yet of what follows a message in one piece

    @override
    def on_headers_complete(self) -> None:
        if self._most_header_bytes > MAX_HEADER_BYTES and self._has_large_headers():
            raise _HeadersTooLargeError
        self._is_waiting = False
        self.unfinished_bytes = 0
        self._stop_expecting()
        super().on_headers_complete()

    @override
    def on_message_complete(self) -> None:
        if self._most_header_bytes > MAX_HEADER_BYTES and self._has_large_headers():
            raise _HeadersTooLargeError  # by its trailers
        super().on_message_complete()
        self._is_waiting = True
        self.unfinished_bytes = 0
        if self._timer is not None:  # for the body
            self._stop_expecting()

    @override
    def send_400_response(self, msg: str) -> None:
        if self._has_large_headers():
            self._refuse(431, "headers-too-large", "the request's headers are too large")
        else:
            self._refuse(400, "malformed-request", "this is not an HTTP request")

    def _has_large_headers(self) -> bool:
        headers = self.headers or ()
        size = sum(len(name) + len(value) + len(": \r\n") for name, value in headers)
        return size > MAX_HEADER_BYTES

    def _refuse(self, status: int, kind: str, detail: str) -> None:
        if self.transport.is_closing() or self._is_refused or self._end_after_answers():
            return
        if not self._has_answer_begun():
            self._write_problem(status, kind, detail)
        self._linger()

    def _end_after_answers(self) -> bool:
        """End with the answers to requests before the refused one; say whether any are to come."""
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None before the first request
        is_alone = not self.pipeline and self._is_in_body()
        if cycle is None or cycle.response_complete or is_alone:
            return False
        cycle.keep_alive = False
        self._is_refused = True
        self._stop_expecting()
        return True

    def _has_answer_begun(self) -> bool:
        """Say whether the application has begun to answer the refused request; it is let go."""
        if not self._is_in_body():
            return False
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        return self.cycle.response_started

    def _is_in_body(self) -> bool:
        """Say whether what comes in is the body of the newest request that was passed on."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return not self._is_waiting and cycle is not None and cycle.scope is self.scope

    def _write_problem(self, status: int, kind: str, detail: str) -> None:
        # The path may not be known yet: `error` is what clients of `/v2` look for.
        problem = {"type": kind, "title": detail, "status": status, "error": detail}
        body = json.dumps(problem).encode()
        head = (
            "content-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(STATUS_LINE[status] + head.encode() + body)

    def _linger(self) -> None:
        """Close for writing, and for reading a little later.

        Closing a socket that holds unread bytes resets the connection, and the caller might lose
        the answer (RFC 9112, section 9.6).
        """
        self._is_refused = True
        self._stop_expecting()
        self.transport.write_eof()
        self._timer = self.loop.call_later(_LINGER_S, self.transport.close)

    def _expect(self, seconds: float) -> None:
        self._timer = self.loop.call_later(seconds, self._give_up)

    def _stop_expecting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        is_awaited = self._is_waiting or self.refusal is not None
        if is_awaited and not self.transport.is_closing() and not self._end_after_answers():
            self.transport.close()


def with_header_timeout(
    seconds: float, turnstile: Turnstile | None = None, *, body_timeout_s: float = 30.0
) -> type[asyncio.Protocol]:
    """Return the protocol class with its time limits and its turnstile set."""
    return cast(
        "type[asyncio.Protocol]",
        type(
            "HttpProtocol",
            (BoundedHttpProtocol,),
            {
                "header_timeout_s": seconds,
                "body_timeout_s": body_timeout_s,
                "turnstile": turnstile,
            },
        ),
    )
