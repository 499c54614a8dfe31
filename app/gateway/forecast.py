"""The native forecast API: bytes to a request, a forecast to bytes."""

from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Any

import orjson
from fastapi import Request
from starlette.responses import Response
from starlette.types import Scope
from typing_extensions import override

from app.errors import InvalidInputError
from app.gateway.bodies import Bodies
from app.gateway.catalog import Catalog, Forecaster
from app.gateway.decoding import decode_request
from app.gateway.exchange import owner_of
from app.gateway.file_forecast import FileForecasts, FileOptions, FileQuery
from app.gateway.file_types import is_file
from app.gateway.native import NativeEndpoints
from app.gateway.parameters import LARGEST_TIMEOUT_MS, ModelName, TimeoutMs, VersionOrLabel
from app.gateway.preparation import PreparedRequest
from app.gateway.problems import series_error
from app.gateway.service import Forecast, ForecastService, SeriesQuantiles
from app.settings import Settings

_INLINE_SERIES = 512


class ForecastEndpoints(NativeEndpoints[Forecaster, PreparedRequest, Forecast]):
    """``POST /v1/models/{model_name}/forecast``, and the same with a version."""

    def __init__(
        self,
        service: ForecastService,
        catalog: Catalog,
        files: FileForecasts,
        bodies: Bodies,
        settings: Settings,
    ) -> None:
        super().__init__(service, catalog, bodies, settings)
        self._service = service
        self._files = files
        self._max_horizon_factor = settings.max_horizon_factor

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

    @override
    def _find_able(self, model_name: str, model_version: str | None) -> Forecaster:
        return self._catalog.find_able("forecast", model_name, model_version)

    @override
    def _prepare(self, model: Forecaster, body: bytes) -> PreparedRequest:
        max_horizon = model.card.horizon * self._max_horizon_factor
        return self._service.prepare(decode_request(body), model, max_horizon=max_horizon)

    @override
    def _run(
        self, scope: Scope, model: Forecaster, prepared: PreparedRequest, *, deadline: float
    ) -> Awaitable[Forecast]:
        return self._service.forecast(prepared, model, deadline=deadline, owner=owner_of(scope))

    @override
    def _is_small(self, answered: Forecast) -> bool:
        return len(answered.item_ids) <= _INLINE_SERIES

    @override
    def _encode(self, answered: Forecast) -> bytes:
        return encode_forecast(answered)


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
