"""uvicorn's HTTP/1.1 connection, with bounds on what a caller may send before a request begins.

httptools has no cap on headers, and uvicorn waits for ever for a request that never comes.
"""

import asyncio
import json
from typing import cast

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from app.gateway.turnstile import Turnstile, TurnstileProtocol

MAX_HEADER_BYTES = 32 * 2**10

_LINGER_S = 2.0


class _HeadersTooLargeError(Exception):
    """Ends the parsing of a request; uvicorn then calls ``send_400_response``."""


class BoundedHttpProtocol(TurnstileProtocol):
    """Ends connections whose headers are too large or do not arrive.

    A subclass sets ``header_timeout_s``: uvicorn makes the instances itself.
    """

    header_timeout_s = 15.0

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))
        self._unfinished_bytes = self._most_header_bytes = 0
        self._is_waiting = True
        self._is_refused = False
        self._timer: asyncio.TimerHandle | None = None
        self._expect_headers()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_expecting()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        self._unfinished_bytes += len(data)
        self._most_header_bytes = self._unfinished_bytes
        super().data_received(data)
        if not self._is_waiting or self._is_refused:
            return
        if self._unfinished_bytes > MAX_HEADER_BYTES:
            self._refuse(431, "headers-too-large", "the request's headers are too large")
        elif self._timer is None:  # most requests come whole, and need no timer
            self._expect_headers()

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_waiting = True

    @override
    def on_headers_complete(self) -> None:
        self._is_waiting = False
        self._unfinished_bytes = 0
        self._stop_expecting()
        if self._most_header_bytes > MAX_HEADER_BYTES and self._has_large_headers():
            raise _HeadersTooLargeError
        super().on_headers_complete()

    @override
    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._unfinished_bytes = 0

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
        if self.transport.is_closing() or self._is_refused:
            return
        # The path may not be known yet: `error` is what clients of `/v2` look for.
        problem = {"type": kind, "title": detail, "status": status, "error": detail}
        body = json.dumps(problem).encode()
        head = (
            "content-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(STATUS_LINE[status] + head.encode() + body)
        self._linger()

    def _linger(self) -> None:
        """Close for writing, and for reading a little later.

        Closing a socket that holds unread bytes resets the connection, and the caller might lose
        the answer (RFC 9112, section 9.6).
        """
        self._is_refused = True
        self._stop_expecting()
        self.transport.write_eof()
        self._timer = self.loop.call_later(_LINGER_S, self.transport.close)

    def _expect_headers(self) -> None:
        self._stop_expecting()
        self._timer = self.loop.call_later(self.header_timeout_s, self._give_up)

    def _stop_expecting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


def with_header_timeout(
    seconds: float, turnstile: Turnstile | None = None
) -> type[asyncio.Protocol]:
    """Return the protocol class with its time limit and its turnstile set."""
    return cast(
        "type[asyncio.Protocol]",
        type(
            "HttpProtocol",
            (BoundedHttpProtocol,),
            {"header_timeout_s": seconds, "turnstile": turnstile},
        ),
    )
