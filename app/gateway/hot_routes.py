"""Answers the routes that carry the load before FastAPI's own machinery begins.

That machinery would cost more than everything else that the gateway does for a small request.
FastAPI still declares and documents these routes, and the same functions stand behind both: what
does not match here to the letter (a query, another content type, an odd number in a header) goes on
to FastAPI, which answers or refuses it.
"""

import re
from collections.abc import Awaitable, Mapping
from typing import Protocol

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.gateway.exchange import WHOLE_ANSWER, Answer, Exchange, exchange_of
from app.gateway.oip import InferEndpoints
from app.gateway.parameters import LARGEST_TIMEOUT_MS

_INFER = frozenset(
    {
        "/v2/models/{model_name}/infer",
        "/v2/models/{model_name}/versions/{model_version}/infer",
    }
)
_NAME, _VERSION = 3, 5
"""Places of the model's name and its version among the segments of these paths."""
_PLAIN_NUMBER = re.compile("[1-9][0-9]{0,17}")


class NativeAnswer(Protocol):
    """Answers one route of the native API."""

    def __call__(
        self,
        scope: Scope,
        receive: Receive,
        model_name: str,
        model_version: str | None,
        /,
        *,
        timeout_ms: int,
    ) -> Awaitable[Response]:
        """Answer a request; None means the default version, or one with a share."""
        ...


class HotRoutes:
    """Stands between the guard, which finds the route of a request, and FastAPI's router.

    Args:
        app: Everything else.
        native: Behind the routes of the native API, by the last part of their paths.
        infer: Behind those of tensors.
    """

    def __init__(
        self, app: ASGIApp, *, native: Mapping[str, NativeAnswer], infer: InferEndpoints
    ) -> None:
        self._app = app
        self._native = {
            route: answer
            for task, answer in native.items()
            for route in (
                f"/v1/models/{{model_name}}/{task}",
                f"/v1/models/{{model_name}}/versions/{{model_version}}/{task}",
            )
        }
        self._infer = infer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of these routes, or pass it on."""
        answering = self._begin(scope, receive) if scope["type"] == "http" else None
        if answering is None:
            await self._app(scope, receive, send)
            return
        response = await answering
        if isinstance(response, Answer):
            await send({"type": WHOLE_ANSWER, "answer": response})
        else:
            await response(scope, receive, send)

    def _begin(self, scope: Scope, receive: Receive) -> Awaitable[Response] | None:
        exchange = exchange_of(scope)
        native = self._native.get(exchange.route)
        if native is None and exchange.route not in _INFER:
            return None
        if scope["method"] != "POST" or scope["query_string"] or scope["root_path"]:
            return None
        segments: list[str] = scope["path"].split("/")
        version = segments[_VERSION] if len(segments) > _VERSION else None
        if native is None:
            return self._infer.answer(scope, receive, segments[_NAME], version)
        timeout_ms = _timeout_ms(exchange)
        if timeout_ms is None or exchange.headers.get(b"content-type") != b"application/json":
            return None
        return native(scope, receive, segments[_NAME], version, timeout_ms=timeout_ms)


def _timeout_ms(exchange: Exchange) -> int | None:
    given = exchange.headers.get(b"x-request-timeout-ms")
    if given is None:
        return LARGEST_TIMEOUT_MS
    number = _plain_number(given.decode("latin-1"))
    return number if number is not None and number <= LARGEST_TIMEOUT_MS else None


def _plain_number(text: str) -> int | None:
    """Read a positive number as it is usually written; None leaves judging it to others."""
    is_plain = _PLAIN_NUMBER.fullmatch(text) is not None
    return int(text) if is_plain else None
