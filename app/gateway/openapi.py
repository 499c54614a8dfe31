"""The OpenAPI document: routes, forecast bodies, keys and problems."""

from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.gateway.access import Access, access_table
from app.gateway.error_bodies import PROBLEM_MEDIA_TYPE
from app.gateway.file_forecast import ANSWER_TYPES
from app.gateway.file_types import BYTES_CONTENT, MEDIA_TYPES
from app.gateway.forecast_schemas import ForecastRequest, ForecastResponse, Problem
from app.settings import Settings

Json = dict[str, Any]

DESCRIPTION = """Forecasts of business time series from recurrent networks.

Send the known values of each series; get quantiles of the next steps. One wrong series never
spoils the others: it carries an `error` where they carry `quantiles`. Models of other tasks find
classes or numbers that belong to sequences. Every other error is a problem of RFC 9457, with the
request's id; below `/v2`, `{"error": "one sentence"}`."""

STATUS_DESCRIPTIONS = {
    400: "The body is no JSON, is not UTF-8, is cut off or nested too deep.",
    401: "The API key is missing or not known.",
    403: "The API key may not load and unload models.",
    404: "There is no such model or version.",
    408: "The body did not arrive in time.",
    409: "The model makes no forecasts: it has another task, or is served below `/v2` alone.",
    410: "There was such a stream, and it is lost.",
    413: "The body is too large, before or after decompression.",
    415: "The body is not JSON, or compressed other than by gzip.",
    422: "A field, or every series, is wrong; `errors` point to the places.",
    429: "The API key asks for more than it may have; see `Retry-After`.",
    500: "The model run failed.",
    501: "The protocol has this, the service does not.",
    503: "The model is not ready, or the service is overloaded or stops; see `Retry-After`.",
    504: "The time ran out.",
}
_OIP_DESCRIPTIONS = {
    400: "The body can not be read, or a tensor or parameter is wrong.",
    409: "The sequence can not go on: an earlier request of it failed, or the model was replaced.",
}
_LISTS = {"ForecastRequest": "series", "TaskRequest": "sequences"}
"""What a request may hold ``max_series`` of, by the name of its schema."""
SCHEMA = "#/components/schemas/{name}"
_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, gc_..."},
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_OPEN_OR_KEY: list[Json] = [{}, {"bearer": []}, {"api_key": []}]

FORECAST_STATUSES = (400, 401, 404, 408, 409, 413, 415, 422, 500, 503, 504)
MODEL_STATUSES = (401, 404, 422, 500, 503)

_MONTHLY_SALES = (
    112, 118, 132, 129, 121, 135, 148, 148, 136, 119, 104, 118,
    115, 126, 141, 135, 125, 149, 170, 170, 158, 133, 114, 140,
    145, 150, 178, 163, 172, 178, 199, 199, 184, 162, 146, 166,
)  # fmt: skip

FORECAST_EXAMPLES: Json = {
    "one series": {
        "summary": "Three years of one product, half a year ahead",
        "value": {
            "series": [{"item_id": "A-17", "start": "2023-01-01", "target": _MONTHLY_SALES}],
            "horizon": 6,
            "quantile_levels": [0.1, 0.5, 0.9],
        },
    },
    "several series": {
        "summary": "Series of different lengths, with missing values and one that is wrong",
        "value": {
            "series": [
                {"item_id": "A-17", "target": _MONTHLY_SALES},
                {"item_id": "B-2", "target": [12.5, None, 14, 13.1, None, 15.2, 16]},
                {"item_id": "C-9", "target": []},
            ]
        },
    },
}


def problem_responses(statuses: Sequence[int]) -> dict[int | str, Json]:
    """Declare problems for a route."""
    schema = {"$ref": SCHEMA.format(name=Problem.__name__)}
    content = {PROBLEM_MEDIA_TYPE: {"schema": schema}}
    return {s: {"description": STATUS_DESCRIPTIONS[s], "content": content} for s in statuses}


def oip_error_responses(statuses: Sequence[int]) -> dict[int | str, Json]:
    """Declare errors of a route below ``/v2``."""
    schema = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
    content = {"application/json": {"schema": schema}}
    descriptions = STATUS_DESCRIPTIONS | _OIP_DESCRIPTIONS
    return {s: {"description": descriptions[s], "content": content} for s in statuses}


def forecast_responses() -> dict[int | str, Json]:
    """Declare all answers of a forecast route."""
    schema = {"$ref": SCHEMA.format(name=ForecastResponse.__name__)}
    content: Json = {"application/json": {"schema": schema}}
    content |= dict.fromkeys(ANSWER_TYPES, BYTES_CONTENT)
    description = "Forecasts, or errors of single series, in the order of the request."
    success: dict[int | str, Json] = {200: {"description": description, "content": content}}
    return success | problem_responses(FORECAST_STATUSES)


def forecast_request_body() -> Json:
    """Declare the body of a forecast route."""
    schema = {"$ref": SCHEMA.format(name=ForecastRequest.__name__)}
    content: Json = {"application/json": {"schema": schema, "examples": FORECAST_EXAMPLES}}
    content |= dict.fromkeys(MEDIA_TYPES, BYTES_CONTENT)
    return {"requestBody": {"required": True, "content": content}}


def build_openapi(
    app: FastAPI, settings: Settings, more_schemas: Sequence[type[msgspec.Struct]] = ()
) -> Json:
    """Build the whole document of ``app``."""
    document: Json = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        tags=app.openapi_tags,
    )
    _, schemas = msgspec.json.schema_components(
        [ForecastRequest, ForecastResponse, Problem, *more_schemas], ref_template=SCHEMA
    )
    for name, field in _LISTS.items():
        schemas[name]["properties"][field]["maxItems"] = settings.max_series
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update(schemas)
    components["securitySchemes"] = _SECURITY_SCHEMES
    _declare_access(document, settings)
    return document


def _declare_access(document: Json, settings: Settings) -> None:
    access, has_keys = access_table(settings), settings.api_keys_file is not None
    for template, operations in document["paths"].items():
        for operation in operations.values():
            if access[template] is not Access.PUBLIC:
                operation["security"] = _OPEN_OR_KEY[1:] if has_keys else _OPEN_OR_KEY
