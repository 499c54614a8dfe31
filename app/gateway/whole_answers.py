"""Writes the answers of the load at once, where uvicorn would look at each of their headers.

An ASGI extension of this server: what stands in a scope under ``extensions`` and ``WRITE`` takes
the headers as they go over the wire, and the body.
"""

from collections.abc import Callable, Iterable
from functools import partial
from http import HTTPStatus
from typing import Any, cast

from starlette.types import Scope
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from app.gateway.exchange import Header

WRITE = "gatecast.write"

Write = Callable[[bytes, bytes | memoryview], bool]
"""Writes an answer of status 200; returns false where only uvicorn's own way will do."""


class WholeAnswerProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 connection with the extension."""

    @override
    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        scope = cast("dict[str, Any]", self.scope)
        scope["extensions"] = {WRITE: partial(_write, self.cycle)}


def write_of(scope: Scope) -> Write | None:
    """Return what writes the answer of a request; None where another server serves it."""
    write: Write | None = scope.get("extensions", {}).get(WRITE)
    return write


def to_lines(headers: Iterable[Header]) -> bytes:
    """Return headers as they go over the wire."""
    return b"".join(b"%b: %b\r\n" % header for header in headers)


def _write(cycle: RequestResponseCycle, lines: bytes, body: bytes | memoryview) -> bool:
    is_usual = cycle.keep_alive and not cycle.response_started
    if not is_usual or cycle.disconnected or cycle.flow.write_paused:
        return False
    first = STATUS_LINE[HTTPStatus.OK] + to_lines(cycle.default_headers)
    cycle.transport.writelines((first, lines, b"\r\n", body))
    cycle.response_started = cycle.response_complete = True
    cycle.message_event.set()
    cycle.on_response()
    return True
