"""The routes of the Open Inference Protocol v2, and what the API's description says of them."""

import functools
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from starlette.responses import JSONResponse, Response

from app.gateway.labels import LABEL_BODY, LabelEndpoints
from app.gateway.oip import InferEndpoints
from app.gateway.oip_admin import OipEndpoints
from app.gateway.openapi import oip_error_responses
from app.tensors import NUMPY_DTYPES

Json = dict[str, Any]

OIP_TAG = {
    "name": "open inference protocol",
    "description": "Tensors in, tensors out: `/v2` as tritonclient, perf_analyzer and KServe"
    " speak it, with binary tensors and statistics.",
}

_MODEL = "/v2/models/{model_name}"
_VERSION = _MODEL + "/versions/{model_version}"
_STATUSES = (400, 401, 404, 500, 503)
_INFER_STATUSES = (400, 401, 404, 408, 409, 413, 415, 500, 503, 504)

_PARAMETERS: Json = {"type": ["object", "null"], "additionalProperties": True}
_TENSOR: Json = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": {"type": "string", "enum": list(NUMPY_DTYPES)},
        "parameters": _PARAMETERS,
        "data": {"type": "array", "items": {}, "description": "Flat, or nested as the shape."},
    },
}
_REQUEST: Json = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": ["string", "null"]},
        "parameters": _PARAMETERS,
        "inputs": {"type": "array", "items": _TENSOR},
        "outputs": {
            "type": ["array", "null"],
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "parameters": _PARAMETERS},
            },
        },
    },
}
_ANSWER: Json = {
    "type": "object",
    "required": ["model_name", "model_version", "outputs"],
    "properties": {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "id": {"type": "string"},
        "outputs": {"type": "array", "items": _TENSOR},
    },
}
INFER_EXAMPLE: Json = {
    "id": "42",
    "inputs": [
        {
            "name": "past_target",
            "shape": [1, 12],
            "datatype": "FP32",
            "data": [112, 118, 132, 129, None, 135, 148, 148, 136, 119, 104, 118],
        }
    ],
    "outputs": [{"name": "quantiles"}],
}


_TENSORS: dict[int | str, Json] = {
    200: {
        "description": "Tensors.",
        "content": {
            "application/json": {"schema": _ANSWER},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


def add_oip_routes(
    app: FastAPI, infer: InferEndpoints, oip: OipEndpoints, labels: LabelEndpoints
) -> None:
    """Add every route below ``/v2``."""
    get = functools.partial(_add, app, "GET")
    get("/v2", oip.server_metadata, statuses=(500,))
    get("/v2/health/live", oip.server_live, statuses=(500,))
    get("/v2/health/ready", oip.server_ready, statuses=(500, 503))
    get("/v2/models/stats", oip.all_statistics, statuses=(401, 500))
    get(_MODEL, oip.model_metadata)
    get(_VERSION, oip.version_metadata)
    get(f"{_MODEL}/ready", oip.model_ready)
    get(f"{_VERSION}/ready", oip.version_ready)
    get(f"{_MODEL}/config", oip.model_config)
    get(f"{_VERSION}/config", oip.version_config)
    get(f"{_MODEL}/stats", oip.model_statistics, statuses=_STATUSES)
    get(f"{_VERSION}/stats", oip.version_statistics, statuses=_STATUSES)
    post = functools.partial(_add, app, "POST")
    for path, endpoint in ((_MODEL, infer.infer), (_VERSION, infer.infer_version)):
        post(
            f"{path}/infer",
            endpoint,
            statuses=_INFER_STATUSES,
            openapi_extra=_body(_REQUEST, required=True, example=INFER_EXAMPLE),
            responses=_TENSORS,
        )
    repository = "/v2/repository/models/{model_name}"
    index = _body({"type": "object", "properties": {"ready": {"type": "boolean"}}}, required=False)
    statuses = (400, 401, 408, 413, 415, 500)
    post("/v2/repository/index", oip.repository_index, statuses=statuses, openapi_extra=index)
    change = _body({"type": "object", "properties": {"parameters": _PARAMETERS}}, required=False)
    changing = (*statuses, 403, 404, 501, 503, 504)
    post(f"{repository}/load", oip.load_model, statuses=changing, openapi_extra=change)
    post(f"{repository}/unload", oip.unload_model, statuses=changing, openapi_extra=change)
    label, body = f"{repository}/labels/{{label}}", _body(LABEL_BODY, required=True)
    _add(app, "PUT", label, labels.set_label, statuses=changing, openapi_extra=body)
    _add(app, "DELETE", label, labels.remove_label, statuses=changing)


def _add(
    app: FastAPI,
    method: str,
    path: str,
    endpoint: Callable[..., Any],
    *,
    statuses: tuple[int, ...] = _STATUSES,
    **options: Any,
) -> None:
    name = endpoint.__name__
    app.add_api_route(
        path,
        endpoint,
        methods=[method],
        tags=[str(OIP_TAG["name"])],
        operation_id=f"oip_{name}",
        response_class=Response if "responses" in options else JSONResponse,
        response_model=None,
        responses=oip_error_responses(statuses) | options.pop("responses", {}),
        **options,
    )


def _body(schema: Json, *, required: bool, example: Json | None = None) -> Json:
    content: Json = {"schema": schema} | ({"example": example} if example else {})
    return {"requestBody": {"required": required, "content": {"application/json": content}}}
