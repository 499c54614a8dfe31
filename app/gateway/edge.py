"""The outermost layer: request ids, last resort for errors, log lines, metrics, headers.

Plain ASGI, so that the layers below still notice when a caller leaves.
"""

import functools
from collections.abc import Iterable

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.gateway.body import CallerLeftError
from app.gateway.drain import Drain
from app.gateway.exchange import (
    CALLER_LEFT_STATUS,
    WHOLE_ANSWER,
    Answer,
    Exchange,
    Header,
    begin_exchange,
    exchange_of,
)
from app.gateway.problems import problem_response
from app.gateway.whole_answers import Write, to_lines, write_of
from app.logs import REQUEST_ID, log_access
from app.metrics import REQUEST_DURATION, REQUESTS

SAFE_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"cache-control": b"no-store",
}
"""Sent with every answer that does not set them itself."""


class Edge:
    """Wraps the application; see the module.

    Args:
        app: The application.
        drain: While it drains, every answer tells the caller to close the connection.
        access_log: Whether to log one line per request.
    """

    def __init__(self, app: ASGIApp, *, drain: Drain, access_log: bool) -> None:
        self._app = app
        self._drain = drain
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = begin_exchange(scope)
        token = REQUEST_ID.set(exchange.request_id)

        async def send_recorded(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._complete_headers(message, exchange)
            elif message["type"] == WHOLE_ANSWER:
                answer: Answer = message["answer"]
                if not self._write_at_once(answer, exchange, write_of(scope)):
                    await answer(scope, receive, send_recorded)
                return
            else:
                exchange.num_bytes += len(message.get("body", b""))
            await send(message)

        try:
            await self._answer(scope, receive, send_recorded)
        finally:
            record_exchange(exchange, access_log=self._access_log)
            REQUEST_ID.reset(token)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        try:
            await self._app(scope, receive, send)
        except CallerLeftError:
            exchange.status = CALLER_LEFT_STATUS
        except Exception as error:
            if exchange.status:
                raise  # part of an answer is out; only closing the connection can tell
            await problem_response(scope, error)(scope, receive, send)

    def _write_at_once(self, answer: Answer, exchange: Exchange, write: Write | None) -> bool:
        if write is None or self._drain.is_draining:
            return False
        if not write(_lines_of(answer, exchange), answer.body):
            return False
        exchange.status, exchange.num_bytes = answer.status_code, len(answer.body)
        return True

    def _complete_headers(self, message: Message, exchange: Exchange) -> None:
        exchange.status = message["status"]
        headers = list(message.get("headers", ()))
        headers += _missing_headers(headers)
        headers.append((b"x-request-id", exchange.request_id.encode()))
        headers += _digest_header(exchange.model_digest)
        if self._drain.is_draining and not any(name == b"connection" for name, _ in headers):
            headers.append((b"connection", b"close"))
        message["headers"] = headers


def _lines_of(answer: Answer, exchange: Exchange) -> bytes:
    return b"%bx-request-id: %b\r\ncontent-length: %d\r\n" % (
        _fixed_lines(answer.headers_but_length, exchange.model_digest),
        exchange.request_id.encode(),
        len(answer.body),
    )


@functools.lru_cache(1024)
def _fixed_lines(headers: tuple[Header, ...], model_digest: str) -> bytes:
    return to_lines((*headers, *_missing_headers(headers), *_digest_header(model_digest)))


def _missing_headers(headers: Iterable[Header]) -> list[Header]:
    present = {name for name, _ in headers}
    return [header for header in SAFE_HEADERS.items() if header[0] not in present]


def _digest_header(model_digest: str) -> list[Header]:
    return [(b"x-model-digest", f"sha256={model_digest}".encode())] if model_digest else []


def record_exchange(exchange: Exchange, *, access_log: bool) -> None:
    """Count a request that was answered, and log its line where there is an access log."""
    status = exchange.status or CALLER_LEFT_STATUS
    model = (exchange.model_name, exchange.model_version)
    requests, duration = _metrics_of(exchange.route, model, status)
    requests.inc()
    duration.observe(exchange.duration_s)
    if access_log:
        log_access(_log_fields(exchange, status))


@functools.cache
def _metrics_of(route: str, model: tuple[str, str], status: int) -> tuple[Counter, Histogram]:
    """Look the metrics of some labels up once; they are kept for ever in any case."""
    requests = REQUESTS.labels(route, *model, str(status))
    return requests, REQUEST_DURATION.labels(route, *model)


def _log_fields(exchange: Exchange, status: int) -> dict[str, object]:
    fields: dict[str, object] = {
        "method": exchange.method,
        "route": exchange.route,
        "status": status,
        "duration_ms": round(exchange.duration_s * 1000, 3),
        "bytes": exchange.num_bytes,
    }
    if exchange.model_name:
        fields["model_name"] = exchange.model_name
    if exchange.model_version:
        fields["model_version"] = exchange.model_version
    if exchange.key_id:
        fields["key_id"] = exchange.key_id
    return fields
