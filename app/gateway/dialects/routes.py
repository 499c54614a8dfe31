"""The routes of the dialects that are switched on, and what the API's description says of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fastapi import FastAPI
from msgspec import Struct
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from app.errors import StartupError
from app.gateway.catalog import Catalog
from app.gateway.dialect_table import DialectRoute, ErrorForm, dialect_routes
from app.gateway.dialects.adapter import Adapter
from app.gateway.dialects.error_schemas import ERROR_SCHEMAS
from app.gateway.dialects.instances import InstancesRequest, InstancesResponse
from app.gateway.dialects.kserve import KServeEndpoints, TimeSeriesRequest
from app.gateway.dialects.sagemaker import Invocation, SageMakerEndpoints
from app.gateway.dialects.timegpt import TimeGptEndpoints
from app.gateway.dialects.timegpt_schemas import (
    TimeGptAnomalies,
    TimeGptCrossValidation,
    TimeGptForecast,
    TimeGptOnlineAnomalies,
)
from app.gateway.dialects.vertex import VertexEndpoints
from app.gateway.error_bodies import ERROR_BODIES
from app.gateway.health import HealthEndpoints
from app.gateway.openapi import FORECAST_STATUSES, STATUS_DESCRIPTIONS
from app.gateway.service import ForecastService
from app.settings import Settings

Json = dict[str, Any]
Endpoint = Callable[..., Any]

DIALECTS_TAG = {
    "name": "dialects",
    "description": "The same forecasts for clients of TimeGPT, SageMaker DeepAR, Chronos, Vertex AI"
    " and KServe; `GATECAST_DIALECTS` switches them.",
}
DIALECT_SCHEMAS: tuple[type[Struct], ...] = (
    InstancesRequest,
    InstancesResponse,
    Invocation,
    TimeGptAnomalies,
    TimeGptCrossValidation,
    TimeGptForecast,
    TimeGptOnlineAnomalies,
    TimeSeriesRequest,
    *ERROR_SCHEMAS.values(),
)

_PROBE_STATUSES = (500, 503)
_READ_STATUSES = (401, 404, 422, 500, 503)


def add_dialect_routes(
    app: FastAPI,
    service: ForecastService,
    catalog: Catalog,
    health: HealthEndpoints,
    settings: Settings,
) -> None:
    """Add the routes of every dialect that is switched on.

    Raises:
        StartupError: A path of Vertex AI is taken, or DeepAR's configuration is wrong.
    """
    adapter = Adapter(service, catalog, settings)
    container = _sagemaker_routes(adapter, health)
    makers: Mapping[str, Mapping[str, _Route]] = {
        "timegpt": _timegpt_routes(adapter, catalog),
        "sagemaker": container,
        "chronos": container,
        "vertex": _vertex_routes(adapter, health, settings),
        "kserve": _kserve_routes(adapter, catalog),
    }
    for name, routes in dialect_routes(settings).items():
        for route in routes:
            if not _is_taken(app, route):
                makers[name][route.path].add_to(app, route)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Route:
    """What answers a route, and what the API's description says of it; no ``answer`` is no body."""

    method: Literal["GET", "POST"]
    endpoint: Endpoint
    operation_id: str
    body: type[Struct] | None = None
    answer: Json | None = field(default_factory=lambda: {"type": "object"})
    statuses: tuple[int, ...] = _READ_STATUSES

    def add_to(self, app: FastAPI, route: DialectRoute) -> None:
        """Register the route."""
        statuses = FORECAST_STATUSES if self.body else self.statuses
        success: Json = {"description": "Done."}
        if self.answer is not None:
            success["content"] = _json(self.answer)
        app.add_api_route(
            route.path,
            self.endpoint,
            methods=[self.method],
            tags=[DIALECTS_TAG["name"]],
            operation_id=self.operation_id,
            response_class=Response if self.body or self.answer is None else JSONResponse,
            response_model=None,
            responses={**_errors(route, statuses), 200: success},
            openapi_extra=_request_body(self.body) if self.body else None,
        )


def _timegpt_routes(adapter: Adapter, catalog: Catalog) -> dict[str, _Route]:
    timegpt = TimeGptEndpoints(adapter, catalog)
    bodies: dict[str, tuple[Endpoint, type[Struct]]] = {
        "forecast": (timegpt.forecast, TimeGptForecast),
        "cross_validation": (timegpt.cross_validation, TimeGptCrossValidation),
        "anomaly_detection": (timegpt.anomaly_detection, TimeGptAnomalies),
        "online_anomaly_detection": (timegpt.online_anomaly_detection, TimeGptOnlineAnomalies),
    }
    reads: dict[str, Endpoint] = {
        "/v2/models": timegpt.models,
        "/v2/finetuned_models": timegpt.finetuned_models,
        "/model_params": timegpt.model_params,
        "/validate_api_key": timegpt.validate_api_key,
    }
    refused: dict[str, tuple[Literal["GET", "POST"], Endpoint]] = {
        "/v2/finetune": ("POST", timegpt.refuse),
        "/v2/simulate": ("POST", timegpt.refuse),
        "/v2/explain": ("POST", timegpt.refuse),
        "/v2/{task}/async": ("POST", timegpt.refuse_job),
        "/usage": ("GET", timegpt.refuse),
    }
    routes = {
        f"/v2/{name}": _Route(
            method="POST", endpoint=endpoint, operation_id=f"timegpt_{name}", body=body
        )
        for name, (endpoint, body) in bodies.items()
    }
    for path, endpoint in reads.items():
        routes[path] = _Route(
            method="GET", endpoint=endpoint, operation_id=f"timegpt_{endpoint.__name__}"
        )
    for path, (method, endpoint) in refused.items():
        name = path.replace("{task}/", "").rpartition("/")[2]
        routes[path] = _Route(
            method=method,
            endpoint=endpoint,
            operation_id=f"timegpt_{name}",
            statuses=(401, 404, 422, 500),
        )
    return routes


def _sagemaker_routes(adapter: Adapter, health: HealthEndpoints) -> dict[str, _Route]:
    sagemaker = SageMakerEndpoints(adapter, health)
    return {
        "/ping": _Route(
            method="GET",
            endpoint=sagemaker.ping,
            operation_id="sagemaker_ping",
            answer=None,
            statuses=_PROBE_STATUSES,
        ),
        "/execution-parameters": _Route(
            method="GET",
            endpoint=sagemaker.execution_parameters,
            operation_id="sagemaker_execution_parameters",
            statuses=_PROBE_STATUSES,
        ),
        "/invocations": _Route(
            method="POST",
            endpoint=sagemaker.invocations,
            operation_id="sagemaker_invocations",
            body=Invocation,
        ),
    }


def _vertex_routes(
    adapter: Adapter, health: HealthEndpoints, settings: Settings
) -> dict[str, _Route]:
    vertex = VertexEndpoints(adapter, health)
    return {
        settings.vertex_health_route: _Route(
            method="GET",
            endpoint=vertex.health,
            operation_id="vertex_health",
            statuses=_PROBE_STATUSES,
        ),
        settings.vertex_predict_route: _Route(
            method="POST",
            endpoint=vertex.predict,
            operation_id="vertex_predict",
            body=InstancesRequest,
            answer=_schema_of(InstancesResponse),
        ),
    }


def _kserve_routes(adapter: Adapter, catalog: Catalog) -> dict[str, _Route]:
    kserve = KServeEndpoints(adapter, catalog)
    return {
        "/v1/models/{model_name}:predict": _Route(
            method="POST",
            endpoint=kserve.predict,
            operation_id="kserve_predict",
            body=InstancesRequest,
            answer=_schema_of(InstancesResponse),
        ),
        "/v1/timeseries/forecast": _Route(
            method="POST",
            endpoint=kserve.forecast,
            operation_id="kserve_forecast",
            body=TimeSeriesRequest,
        ),
        "/v1/timeseries/models": _Route(
            method="GET",
            endpoint=kserve.models,
            operation_id="kserve_models",
            answer={"type": "array", "items": {"type": "string"}},
        ),
    }


def _is_taken(app: FastAPI, route: DialectRoute) -> bool:
    """Whether the service has a probe of that path already; any other clash is an error."""
    scope = {"type": "http", "path": route.path, "method": "GET" if route.is_probe else "POST"}
    found = [r for r in app.routes if r.matches(scope)[0] is Match.FULL]
    if not found:
        return False
    is_same = any(getattr(r, "path", "") == route.path for r in found)
    if is_same and (route.is_probe or route.error_form is ErrorForm.SAGEMAKER):
        return True
    raise StartupError(f"{route.path} can not be a route of Vertex AI: it is taken")


def _schema_of(kind: type[Struct]) -> Json:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _request_body(kind: type[Struct]) -> Json:
    return {"requestBody": {"required": True, "content": _json(_schema_of(kind))}}


def _errors(route: DialectRoute, statuses: tuple[int, ...]) -> dict[int | str, Json]:
    form = ERROR_BODIES[route.error_form]
    return {
        form.status_of(status): {
            "description": STATUS_DESCRIPTIONS[status],
            "content": _json(_schema_of(ERROR_SCHEMAS[route.error_form])),
        }
        for status in statuses
    }
