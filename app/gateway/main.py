"""Puts the gateway together: routes, error rendering, access and the outermost layer."""

import functools
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from typing_extensions import override

from app.errors import GatecastError
from app.gateway.access import Guard, access_table, check_access_table
from app.gateway.bodies import Bodies
from app.gateway.catalog import Catalog
from app.gateway.descriptions import ModelDescription, ModelEndpoints, ModelList
from app.gateway.dialects.routes import DIALECT_SCHEMAS, DIALECTS_TAG, add_dialect_routes
from app.gateway.drain import Drain
from app.gateway.edge import Edge
from app.gateway.exchange import exchange_of
from app.gateway.file_forecast import FileForecasts
from app.gateway.file_reader import FileReader
from app.gateway.files import FileEndpoints, FoundFile, series_request_body
from app.gateway.forecast import ForecastEndpoints
from app.gateway.health import HealthEndpoints, Liveness, Readiness
from app.gateway.hot_routes import HotRoutes
from app.gateway.job_routes import JOB_SCHEMAS, JOBS_TAG, add_job_routes
from app.gateway.jobs import JobEndpoints
from app.gateway.labels import LabelEndpoints
from app.gateway.oip import InferEndpoints
from app.gateway.oip_admin import OipEndpoints
from app.gateway.oip_routes import OIP_TAG, add_oip_routes
from app.gateway.openapi import (
    DESCRIPTION,
    MODEL_STATUSES,
    build_openapi,
    forecast_request_body,
    forecast_responses,
    problem_responses,
)
from app.gateway.pages import PageEndpoints, installed_version
from app.gateway.problems import problem_response
from app.gateway.redis_store import RedisStore
from app.gateway.runners import Runners
from app.gateway.service import ForecastService
from app.gateway.sqlite_store import SqliteStore
from app.gateway.stream_routes import (
    STREAM_SCHEMAS,
    STREAMS_TAG,
    StreamEndpoints,
    add_stream_routes,
)
from app.gateway.stream_store import StreamStore
from app.gateway.streams import Streams
from app.gateway.task_routes import (
    TASK_SCHEMAS,
    TASKS_TAG,
    add_task_routes,
    make_task_endpoints,
)
from app.gateway.task_service import TaskService
from app.jobs.desk import JobDesk
from app.keys import KeyRing
from app.settings import Settings

_TAGS = [
    {"name": "forecast", "description": "Series in, quantiles out."},
    STREAMS_TAG,
    TASKS_TAG,
    {"name": "models", "description": "What is served, and how good it is."},
    JOBS_TAG,
    OIP_TAG,
    DIALECTS_TAG,
    {"name": "operations", "description": "Probes and metrics."},
]
_SCHEMAS: Sequence[type[msgspec.Struct]] = (
    *TASK_SCHEMAS,
    *JOB_SCHEMAS,
    *STREAM_SCHEMAS,
    *DIALECT_SCHEMAS,
)


class _Gateway(FastAPI):
    """FastAPI whose outermost layer is ``Edge``, which answers what fails inside by itself."""

    @functools.cached_property
    def _edge(self) -> ASGIApp:
        layer: Any = self.build_middleware_stack()
        while not isinstance(layer, Edge):  # FastAPI's own, which cost every request a little
            layer = layer.app
        return layer

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["app"] = self
            await self._edge(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_app(
    settings: Settings, runners: Runners, drain: Drain, store: StreamStore | None = None
) -> FastAPI:
    """Return the ASGI application of a gateway.

    Args:
        settings: Settings of the service.
        runners: What runs the models.
        drain: Says when the process is stopping.
        store: Keeps the streams; None opens the one of the settings.

    Raises:
        StartupError: The keys file or the store of streams is not sound, the folder of jobs can not
            be used, or a route has no entry in the access table.
    """
    app = _Gateway(
        title="gatecast",
        version=installed_version(),
        description=DESCRIPTION,
        openapi_tags=_TAGS,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # asked for at every request
    )
    catalog = Catalog(runners)
    health = HealthEndpoints(runners, drain)
    service = ForecastService(runners, settings)
    reader = FileReader(settings)
    files = FileForecasts(service, reader, settings)
    bodies = Bodies(settings)
    forecast = ForecastEndpoints(service, catalog, files, bodies, settings)
    tasks = make_task_endpoints(TaskService(runners, settings), catalog, bodies, settings)
    infer = InferEndpoints(service, catalog, settings)
    _add_forecast_routes(app, forecast)
    add_task_routes(app, tasks)
    _add_file_routes(app, FileEndpoints(reader, settings))
    streams = Streams(service, store or open_stream_store(settings))
    add_stream_routes(app, StreamEndpoints(streams, catalog, settings))
    add_job_routes(app, JobEndpoints(JobDesk.open(settings), catalog, drain, settings))
    add_oip_routes(
        app, infer, OipEndpoints(runners, health, settings), LabelEndpoints(runners, settings)
    )
    _add_health_routes(app, health)
    add_dialect_routes(app, service, catalog, health, settings)  # `:predict` before `{model_name}`
    _add_model_routes(app, ModelEndpoints(catalog, runners, settings))
    _add_page_routes(app, PageEndpoints())
    _add_openapi_route(app, settings)
    for kind in (GatecastError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _answer_problem)
    key_ring = KeyRing(settings.api_keys_file) if settings.api_keys_file else None
    routes = check_access_table(app.routes, access_table(settings))
    native = {"forecast": forecast.answer} | {task: one.answer for task, one in tasks.items()}
    app.add_middleware(HotRoutes, native=native, infer=infer)
    app.add_middleware(Guard, routes=routes, settings=settings, key_ring=key_ring)
    app.add_middleware(Edge, drain=drain, access_log=settings.access_log)
    return app


def open_stream_store(settings: Settings, directory: Path | None = None) -> StreamStore:
    """Return what keeps the streams: as it is set, else a file that ends with the service.

    Args:
        settings: Settings of the service.
        directory: Folder that all gateways share and that ends with the service; None where there
            is one gateway alone.

    Raises:
        StartupError: The store is not sound, or the package that it needs is missing.
    """
    ttl_s, max_streams = settings.stream_ttl_s, settings.max_streams
    if "://" in settings.stream_store:
        return RedisStore(settings.stream_store, ttl_s=ttl_s, max_streams=max_streams)
    if settings.stream_store:
        return SqliteStore(
            Path(settings.stream_store), is_durable=True, ttl_s=ttl_s, max_streams=max_streams
        )
    path = directory and directory / "streams.sqlite3"
    return SqliteStore(path, is_durable=False, ttl_s=ttl_s, max_streams=max_streams)


async def _answer_problem(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        error = HTTPException(error.status_code, headers={"Allow": _methods_of(request)})
    return problem_response(request.scope, error)


def _methods_of(request: Request) -> str:
    """Return the methods of all routes at the path of a request; one route knows only its own."""
    path = exchange_of(request.scope).route
    routes = (one for one in request.app.routes if isinstance(one, Route) and one.path == path)
    return ", ".join(sorted({method for route in routes for method in route.methods or ()}))


def _add_forecast_routes(app: FastAPI, endpoints: ForecastEndpoints) -> None:
    add_route = functools.partial(
        app.add_api_route,
        methods=["POST"],
        tags=["forecast"],
        response_class=Response,
        response_model=None,
        responses=forecast_responses(),
        openapi_extra=forecast_request_body(),
    )
    add_route("/v1/models/{model_name}/forecast", endpoints.forecast, operation_id="forecast")
    add_route(
        "/v1/models/{model_name}/versions/{model_version}/forecast",
        endpoints.forecast_version,
        operation_id="forecast_version",
    )


def _add_file_routes(app: FastAPI, endpoints: FileEndpoints) -> None:
    found: dict[int | str, dict[str, Any]] = {
        200: {"model": FoundFile, "description": "What was understood."}
    }
    app.add_api_route(
        "/v1/series",
        endpoints.read_series,
        methods=["POST"],
        tags=["forecast"],
        operation_id="read_series",
        response_class=Response,
        response_model=None,
        responses=found | problem_responses((400, 401, 408, 413, 415, 422, 500)),
        openapi_extra=series_request_body(),
    )


def _add_model_routes(app: FastAPI, endpoints: ModelEndpoints) -> None:
    add_route = functools.partial(app.add_api_route, methods=["GET"], tags=["models"])
    responses = problem_responses(MODEL_STATUSES)
    add_route(
        "/v1/models",
        endpoints.list_models,
        operation_id="list_models",
        response_model=ModelList,
        responses=problem_responses((401, 500)),
    )
    add_route(
        "/v1/models/{model_name}",
        endpoints.describe_model,
        operation_id="describe_model",
        response_model=ModelDescription,
        responses=responses,
    )
    add_route(
        "/v1/models/{model_name}/versions/{model_version}",
        endpoints.describe_version,
        operation_id="describe_version",
        response_model=ModelDescription,
        responses=responses,
    )


def _add_health_routes(app: FastAPI, endpoints: HealthEndpoints) -> None:
    add_route = functools.partial(app.add_api_route, methods=["GET"], tags=["operations"])
    unready: dict[int | str, dict[str, Any]] = {
        503: {"model": Readiness, "description": "No request should come here now."}
    }
    add_route("/livez", endpoints.is_alive, operation_id="livez", response_model=Liveness)
    add_route(
        "/readyz",
        endpoints.is_ready,
        operation_id="readyz",
        response_model=Readiness,
        responses=unready,
    )
    text: dict[int | str, dict[str, Any]] = {
        200: {"description": "Metrics.", "content": {"text/plain": {}}}
    }
    add_route(
        "/metrics",
        endpoints.metrics,
        operation_id="metrics",
        response_class=Response,
        response_model=None,
        responses=text | problem_responses((401, 500)),
    )


def _add_page_routes(app: FastAPI, endpoints: PageEndpoints) -> None:
    app.add_route("/", endpoints.console, methods=["GET"])
    app.add_route("/docs", endpoints.docs, methods=["GET"])
    app.add_route("/assets/{asset_name}", endpoints.asset, methods=["GET"])


def _add_openapi_route(app: FastAPI, settings: Settings) -> None:
    @functools.cache
    def document() -> bytes:
        return orjson.dumps(build_openapi(app, settings, _SCHEMAS))

    async def openapi(_: Request) -> Response:
        return Response(document(), media_type="application/json")

    app.add_route("/openapi.json", openapi, methods=["GET"])
