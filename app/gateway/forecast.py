"""The native forecast API: bytes to a request, a forecast to bytes."""

import asyncio
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Annotated, Any

import orjson
from fastapi import Header, Path, Request
from starlette.responses import Response
from starlette.types import Receive, Scope

from app.errors import InvalidInputError
from app.gateway.bodies import Bodies
from app.gateway.body import cancel_when_caller_leaves
from app.gateway.catalog import Catalog, Forecaster
from app.gateway.decoding import decode_request
from app.gateway.exchange import Answer, exchange_of, header_of, owner_of
from app.gateway.file_forecast import FileForecasts, FileOptions, FileQuery
from app.gateway.file_types import is_file
from app.gateway.preparation import PreparedRequest
from app.gateway.problems import series_error
from app.gateway.service import Forecast, ForecastService, SeriesQuantiles
from app.settings import Settings

LARGEST_TIMEOUT_MS = 86_400_000

_HEADERS = ((b"content-type", b"application/json"),)
_INLINE_SERIES = 512

ModelName = Annotated[
    str, Path(description="Name of a model in the model repository.", examples=["monthly"])
]
VersionOrLabel = Annotated[
    str,
    Path(
        description="Version of the model: its number, or a label that names it.",
        examples=["1", "stable"],
    ),
]
TRAFFIC_KEY = b"x-traffic-key"
"""Header of requests that are to meet one version, where labels have shares of the traffic."""
TimeoutMs = Annotated[
    int,
    Header(
        alias="X-Request-Timeout-Ms",
        ge=1,
        le=LARGEST_TIMEOUT_MS,
        description="Milliseconds that the request may take; only shortens the service's limit.",
    ),
]


class ForecastEndpoints:
    """``POST /v1/models/{model_name}/forecast``, and the same with a version."""

    def __init__(
        self,
        service: ForecastService,
        catalog: Catalog,
        files: FileForecasts,
        bodies: Bodies,
        settings: Settings,
    ) -> None:
        self._service = service
        self._catalog = catalog
        self._settings = settings
        self._files = files
        self._bodies = bodies

    async def forecast(
        self,
        request: Request,
        model_name: ModelName,
        options: FileQuery,
        timeout_ms: TimeoutMs = LARGEST_TIMEOUT_MS,
    ) -> Response:
        """Forecast series with the default version of a model, or one that has a share of these.

        Requests of equal `X-Traffic-Key` headers meet one version.
        """
        if is_file(request.headers.get("content-type", "")):
            return await self._answer_file(request, model_name, None, options)
        return await self.answer(
            request.scope, request.receive, model_name, None, timeout_ms=timeout_ms
        )

    async def forecast_version(
        self,
        request: Request,
        model_name: ModelName,
        model_version: VersionOrLabel,
        options: FileQuery,
        timeout_ms: TimeoutMs = LARGEST_TIMEOUT_MS,
    ) -> Response:
        """Forecast series with one version of a model, by its number or label."""
        if is_file(request.headers.get("content-type", "")):
            return await self._answer_file(request, model_name, model_version, options)
        return await self.answer(
            request.scope, request.receive, model_name, model_version, timeout_ms=timeout_ms
        )

    async def _answer_file(
        self, request: Request, model_name: str, model_version: str | None, options: FileOptions
    ) -> Response:
        model = self._find(request.scope, model_name, model_version)
        return await self._files.answer(request, model, options)

    async def answer(
        self,
        scope: Scope,
        receive: Receive,
        model_name: str,
        model_version: str | None,
        *,
        timeout_ms: int,
    ) -> Response:
        """Forecast the series of a JSON body; None means the default version, or one with a share.

        Raises:
            GatecastError: There is no such model, the request is wrong, or it can not be run now.
            CallerLeftError: The caller closed the connection.
        """
        model = self._find(scope, model_name, model_version)
        self._service.check_room(model.model_name)
        prepared = await self._bodies.read(scope, receive, partial(self._prepare, model))
        limit_s = min(self._settings.request_timeout_s, timeout_ms / 1000)
        with cancel_when_caller_leaves(receive):
            deadline = exchange_of(scope).started + limit_s
            forecast = await self._service.forecast(
                prepared, model, deadline=deadline, owner=owner_of(scope)
            )
            content = await _encode(forecast)
        return Answer(content, _HEADERS)

    def _find(self, scope: Scope, model_name: str, model_version: str | None) -> Forecaster:
        if model_version is None:
            model_version = self._catalog.draw(model_name, header_of(scope, TRAFFIC_KEY))
        model = self._catalog.find_forecaster(model_name, model_version)
        exchange = exchange_of(scope)
        exchange.name_model(model.model_name, model.model_version, model.digest)
        return model

    def _prepare(self, model: Forecaster, body: bytes) -> PreparedRequest:
        max_horizon = model.card.horizon * self._settings.max_horizon_factor
        return self._service.prepare(decode_request(body), model, max_horizon=max_horizon)


async def _encode(forecast: Forecast) -> bytes:
    if len(forecast.item_ids) <= _INLINE_SERIES:
        return encode_forecast(forecast)
    return await asyncio.to_thread(encode_forecast, forecast)


def encode_forecast(forecast: Forecast) -> bytes:
    """Write a ``ForecastResponse``; float32 numbers keep their shortest exact form."""
    content = {
        "model_name": forecast.model.model_name,
        "model_version": forecast.model.model_version,
        "horizon": forecast.horizon,
        "quantile_levels": forecast.quantile_levels,
        "forecasts": encode_forecast_series(forecast),
    }
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def encode_forecast_series(
    forecast: Forecast, translate: Callable[[InvalidInputError], InvalidInputError] | None = None
) -> list[dict[str, Any]]:
    """Return a ``SeriesForecast`` for each series; ``translate`` words errors otherwise."""
    names = _names_of(forecast.quantile_levels)
    contents: list[dict[str, Any]] = []
    for position, item_id in enumerate(forecast.item_ids):
        content: dict[str, Any] = {} if item_id is None else {"item_id": item_id}
        if refusal := forecast.refusals.get(position):
            content["error"] = series_error(translate(refusal) if translate else refusal)
        else:
            content |= _series_content(forecast.series[position], names)
        contents.append(content)
    return contents


@lru_cache(maxsize=256)
def _names_of(levels: tuple[float, ...]) -> tuple[str, ...]:
    return tuple(map(repr, levels))


def _series_content(one: SeriesQuantiles, names: Sequence[str]) -> dict[str, Any]:
    content: dict[str, Any] = {} if one.timestamps is None else {"timestamps": one.timestamps}
    content["quantiles"] = dict(zip(names, one.quantiles, strict=True))
    return content | {"notes": one.notes} if one.notes else content
