"""The routes of streams: bodies to streams, and streams to bodies."""

import datetime as dt
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Path, Query, Request
from starlette.responses import Response

from app.errors import InvalidInputError
from app.gateway.body import cancel_when_caller_leaves, read_json_body
from app.gateway.catalog import Catalog, Forecaster
from app.gateway.decoding import decode_body
from app.gateway.exchange import exchange_of, owner_of
from app.gateway.openapi import problem_responses
from app.gateway.parameters import ModelName
from app.gateway.stream_schemas import (
    Observations,
    StreamDescription,
    StreamForecast,
    StreamHistory,
    StreamList,
)
from app.gateway.stream_store import Stream, StreamKey
from app.gateway.streams import Streams, Wish
from app.settings import Settings

STREAMS_TAG = {"name": "streams", "description": "Histories that the service keeps."}
STREAM_SCHEMAS = (StreamHistory, Observations, StreamDescription, StreamList, StreamForecast)

_STREAMS_PATH = "/v1/models/{model_name}/streams"
_ONE_STREAM = f"{_STREAMS_PATH}/{{stream_id}}"
_MAX_LISTED = 1000
_DESCRIPTIONS = {
    404: "There is no such stream or model.",
    409: "The values do not follow on the stream, or the model makes no forecasts.",
    429: "The API key has as many streams as it may have.",
}
_READ_STATUSES = (401, 404, 410, 422, 500, 503)
_WRITE_STATUSES = (400, 401, 404, 408, 409, 410, 413, 415, 422, 429, 500, 503, 504)

StreamId = Annotated[
    str,
    Path(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@~-]{0,127}$",
        description="Name of the stream; each API key has its own.",
        examples=["shop-17"],
    ),
]
After = Annotated[str, Query(max_length=128, description="List what comes after this id.")]
Limit = Annotated[int, Query(ge=1, le=_MAX_LISTED, description="Most streams in the answer.")]
Horizon = Annotated[int | None, Query(ge=1, description="Steps ahead; the model's if left out.")]
LevelList = Annotated[
    str | None, Query(max_length=1000, description="Quantile levels, such as 0.1,0.5,0.9.")
]

_history_decoder = msgspec.json.Decoder(StreamHistory)
_observations_decoder = msgspec.json.Decoder(Observations)


class StreamEndpoints:
    """Everything below ``/v1/models/{model_name}/streams``."""

    def __init__(self, streams: Streams, catalog: Catalog, settings: Settings) -> None:
        self._streams = streams
        self._catalog = catalog
        self._settings = settings
        self._ttl = dt.timedelta(seconds=settings.stream_ttl_s)

    async def create(
        self, request: Request, model_name: ModelName, stream_id: StreamId
    ) -> Response:
        """Make a stream from a history, in place of one of the same name."""
        model = self._find_model(request, model_name, stream_id)
        key = _key(request, model_name, stream_id)
        history = decode_body(await self._read(request), _history_decoder)
        is_new = await self._streams.create(key, history, model)
        description = self._describe(model_name, stream_id, await self._streams.read(key))
        return _answer(description, HTTPStatus.CREATED if is_new else HTTPStatus.OK)

    async def append(
        self, request: Request, model_name: ModelName, stream_id: StreamId
    ) -> Response:
        """Add values to a stream and forecast what follows; safe to repeat."""
        model = self._find_model(request, model_name, stream_id)
        key = _key(request, model_name, stream_id)
        observations = decode_body(await self._read(request), _observations_decoder)
        wish = self._wish(request, observations.horizon, observations.quantile_levels)
        with cancel_when_caller_leaves(request.receive):
            content = await self._streams.append(key, observations, model, wish)
        return Response(content, media_type="application/json")

    async def forecast(
        self,
        request: Request,
        model_name: ModelName,
        stream_id: StreamId,
        horizon: Horizon = None,
        quantile_levels: LevelList = None,
    ) -> Response:
        """Forecast a stream as it is."""
        model = self._find_model(request, model_name, stream_id)
        key = _key(request, model_name, stream_id)
        wish = self._wish(request, horizon, _parse_levels(quantile_levels))
        content = await self._streams.forecast(key, model, wish)
        return Response(content, media_type="application/json")

    async def describe(
        self, request: Request, model_name: ModelName, stream_id: StreamId
    ) -> Response:
        """Tell how far a stream has come."""
        stream = await self._streams.read(_key(request, model_name, stream_id))
        return _answer(self._describe(model_name, stream_id, stream))

    async def list_streams(
        self,
        request: Request,
        model_name: ModelName,
        after: After = "",
        limit: Limit = _MAX_LISTED,
    ) -> Response:
        """List the streams of one model that the caller's key has made."""
        owner = exchange_of(request.scope).key_id
        found = await self._streams.read_page(owner, model_name, after=after, limit=limit + 1)
        streams = [self._describe(model_name, name, stream) for name, stream in found[:limit]]
        next_after = streams[-1].stream_id if len(found) > limit else msgspec.UNSET
        return _answer(StreamList(streams=streams, next_after=next_after))

    async def delete(
        self, request: Request, model_name: ModelName, stream_id: StreamId
    ) -> Response:
        """Forget a stream."""
        await self._streams.delete(_key(request, model_name, stream_id))
        return Response(status_code=HTTPStatus.NO_CONTENT)

    def _find_model(self, request: Request, model_name: str, stream_id: str) -> Forecaster:
        """Return the version for a stream; where versions share a model, always the same."""
        version = self._catalog.draw(model_name, stream_id)
        model = self._catalog.find_able("forecast", model_name, version)
        exchange = exchange_of(request.scope)
        exchange.name_model(model.model_name, model.model_version, model.digest)
        return model

    async def _read(self, request: Request) -> bytes:
        return await read_json_body(
            request.scope,
            request.receive,
            max_bytes=self._settings.max_body_bytes,
            timeout_s=self._settings.body_timeout_s,
        )

    def _wish(self, request: Request, horizon: float | None, levels: list[float] | None) -> Wish:
        return Wish(
            deadline=exchange_of(request.scope).started + self._settings.request_timeout_s,
            horizon=horizon,
            quantile_levels=levels,
            owner=owner_of(request.scope),
        )

    def _describe(self, model_name: str, stream_id: str, stream: Stream) -> StreamDescription:
        updated_at = dt.datetime.fromtimestamp(stream.updated_at, dt.UTC)
        return StreamDescription(
            stream_id=stream_id,
            model_name=model_name,
            step=stream.step,
            num_kept=len(stream.tail),
            updated_at=updated_at.isoformat(timespec="seconds"),
            expires_at=(updated_at + self._ttl).isoformat(timespec="seconds"),
            start=stream.start or msgspec.UNSET,
            freq=stream.freq or msgspec.UNSET,
        )


def add_stream_routes(app: FastAPI, endpoints: StreamEndpoints) -> None:
    """Add all routes of streams to ``app``."""
    add = partial(app.add_api_route, tags=["streams"], response_class=Response, response_model=None)
    add(_STREAMS_PATH, endpoints.list_streams, methods=["GET"], operation_id="list_streams",
        responses=_responses({200: StreamList}, _READ_STATUSES))  # fmt: skip
    add(_ONE_STREAM, endpoints.create, methods=["PUT"], operation_id="create_stream",
        responses=_responses({200: StreamDescription, 201: StreamDescription}, _WRITE_STATUSES),
        openapi_extra=_body(StreamHistory))  # fmt: skip
    add(_ONE_STREAM, endpoints.describe, methods=["GET"], operation_id="describe_stream",
        responses=_responses({200: StreamDescription}, _READ_STATUSES))  # fmt: skip
    add(_ONE_STREAM, endpoints.delete, methods=["DELETE"], operation_id="delete_stream",
        status_code=204, responses=_responses({}, _READ_STATUSES))  # fmt: skip
    add(f"{_ONE_STREAM}/observations", endpoints.append, methods=["POST"],
        operation_id="append_to_stream", openapi_extra=_body(Observations),
        responses=_responses({200: StreamForecast}, _WRITE_STATUSES))  # fmt: skip
    add(f"{_ONE_STREAM}/forecast", endpoints.forecast, methods=["GET"],
        operation_id="forecast_stream",
        responses=_responses({200: StreamForecast}, (*_READ_STATUSES, 409, 504)))  # fmt: skip


def _responses(
    success: dict[int, type[msgspec.Struct]], problems: tuple[int, ...]
) -> dict[int | str, Any]:
    content = {status: _content(schema) for status, schema in success.items()}
    described = {s: {"description": "As asked.", "content": c} for s, c in content.items()}
    refused = problem_responses(problems)
    for status in _DESCRIPTIONS.keys() & refused.keys():
        refused[status] |= {"description": _DESCRIPTIONS[status]}
    return described | refused


def _body(schema: type[msgspec.Struct]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": _content(schema)}}


def _content(schema: type[msgspec.Struct]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema.__name__}"}}}


def _key(request: Request, model_name: str, stream_id: str) -> StreamKey:
    return StreamKey(exchange_of(request.scope).key_id, model_name, stream_id)


def _parse_levels(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(level) for level in text.split(",")]
    except ValueError as error:
        raise InvalidInputError("quantile_levels must be numbers between commas") from error


def _answer(content: msgspec.Struct, status: int = HTTPStatus.OK) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")
