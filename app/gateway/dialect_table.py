"""The foreign protocols that the service speaks: their names, routes and forms of error.

``GATECAST_DIALECTS`` lists those that are switched on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.settings import Settings


class ErrorForm(StrEnum):
    """Whose error body a route answers."""

    PROBLEM = "problem"
    OIP = "oip"
    TIMEGPT = "timegpt"
    SAGEMAKER = "sagemaker"
    VERTEX = "vertex"
    KSERVE = "kserve"
    KSERVE_TIMESERIES = "kserve_timeseries"


@dataclass(frozen=True, slots=True)
class DialectRoute:
    """One route of a dialect; probes are for platforms, which have no key."""

    path: str
    error_form: ErrorForm
    is_probe: bool = False


_TIMEGPT_PATHS = (
    "/v2/forecast",
    "/v2/cross_validation",
    "/v2/anomaly_detection",
    "/v2/online_anomaly_detection",
    "/v2/models",
    "/v2/finetuned_models",
    "/model_params",
    "/validate_api_key",
    "/v2/finetune",
    "/v2/simulate",
    "/v2/explain",
    "/v2/{task}/async",
    "/usage",
)

_CONTAINER = (
    DialectRoute("/ping", ErrorForm.SAGEMAKER, is_probe=True),
    DialectRoute("/execution-parameters", ErrorForm.SAGEMAKER, is_probe=True),
    DialectRoute("/invocations", ErrorForm.SAGEMAKER),
)
"""SageMaker's contract with a container; the body of an invocation tells DeepAR from Chronos."""

DIALECTS: Mapping[str, Sequence[DialectRoute]] = {
    "timegpt": [DialectRoute(path, ErrorForm.TIMEGPT) for path in _TIMEGPT_PATHS],
    "sagemaker": _CONTAINER,
    "chronos": _CONTAINER,
    "vertex": [
        DialectRoute("{vertex_health_route}", ErrorForm.VERTEX, is_probe=True),
        DialectRoute("{vertex_predict_route}", ErrorForm.VERTEX),
    ],
    "kserve": [
        DialectRoute("/v1/models/{model_name}:predict", ErrorForm.KSERVE),
        DialectRoute("/v1/timeseries/forecast", ErrorForm.KSERVE_TIMESERIES),
        DialectRoute("/v1/timeseries/models", ErrorForm.KSERVE_TIMESERIES),
    ],
}
"""By name of dialect, as ``app.settings.DIALECT_NAMES``; the paths of Vertex AI are settings."""


def dialect_routes(settings: Settings) -> dict[str, list[DialectRoute]]:
    """Return the routes of each dialect that is switched on."""
    return {
        name: [_with_path(route, settings) for route in DIALECTS[name]]
        for name in settings.dialect_names
    }


def _with_path(route: DialectRoute, settings: Settings) -> DialectRoute:
    own = {
        "{vertex_health_route}": settings.vertex_health_route,
        "{vertex_predict_route}": settings.vertex_predict_route,
    }
    path = own.get(route.path, route.path)
    return DialectRoute(path, route.error_form, is_probe=route.is_probe)
