"""Answers the routes that carry the load before FastAPI's own machinery begins.

That machinery would cost more than everything else that the gateway does for a small request.
FastAPI still declares and documents these routes, and the same functions stand behind both: what
does not match here to the letter (a query, another content type, an odd number in a header) goes on
to FastAPI, which answers or refuses it.
"""

import re
from collections.abc import Awaitable

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.gateway.exchange import Exchange, exchange_of
from app.gateway.forecast import LARGEST_TIMEOUT_MS, ForecastEndpoints
from app.gateway.oip import InferEndpoints

_FORECAST = frozenset(
    {
        "/v1/models/{model_name}/forecast",
        "/v1/models/{model_name}/versions/{model_version}/forecast",
    }
)
_INFER = frozenset(
    {
        "/v2/models/{model_name}/infer",
        "/v2/models/{model_name}/versions/{model_version}/infer",
    }
)
_NAME, _VERSION = 3, 5
"""Places of the model's name and its version among the segments of these paths."""
_PLAIN_NUMBER = re.compile("[1-9][0-9]{0,17}")


class HotRoutes:
    """Stands between the guard, which finds the route of a request, and FastAPI's router.

    Args:
        app: Everything else.
        forecast: Behind the routes of the native API.
        infer: Behind those of tensors.
    """

    def __init__(self, app: ASGIApp, *, forecast: ForecastEndpoints, infer: InferEndpoints) -> None:
        self._app = app
        self._forecast = forecast
        self._infer = infer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of these routes, or pass it on."""
        answering = self._begin(scope, receive) if scope["type"] == "http" else None
        if answering is None:
            await self._app(scope, receive, send)
            return
        response = await answering
        await response(scope, receive, send)

    def _begin(self, scope: Scope, receive: Receive) -> Awaitable[Response] | None:
        exchange = exchange_of(scope)
        is_forecast = exchange.route in _FORECAST
        if not (is_forecast or exchange.route in _INFER):
            return None
        if scope["method"] != "POST" or scope["query_string"] or scope["root_path"]:
            return None
        segments: list[str] = scope["path"].split("/")
        version = segments[_VERSION] if len(segments) > _VERSION else None
        if not is_forecast:
            return self._infer.answer(scope, receive, segments[_NAME], version)
        timeout_ms = _timeout_ms(exchange)
        if timeout_ms is None or exchange.headers.get(b"content-type") != b"application/json":
            return None
        return self._forecast.answer(
            scope, receive, segments[_NAME], version, timeout_ms=timeout_ms
        )


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
