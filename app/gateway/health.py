"""Probes and metrics."""

from typing import Literal

from fastapi import Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from app.gateway.catalog import unready_reason
from app.gateway.drain import Drain
from app.gateway.runners import Runners
from app.gateway.triton_metrics import render_triton_metrics
from app.metrics import render_metrics

_RETRY_AFTER_S = "1"
_STATISTICS_TIMEOUT_S = 1.0


class Liveness(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Readiness(BaseModel):
    """Whether forecasts can be made, and if not, why."""

    is_ready: bool
    reason: str


class HealthEndpoints:
    """``/livez``, ``/readyz`` and ``/metrics``."""

    def __init__(self, runners: Runners, drain: Drain) -> None:
        self._runners = runners
        self._drain = drain

    async def is_alive(self) -> Liveness:
        """Tell that the process lives; whatever the runners do."""
        return Liveness()

    async def is_ready(self, response: Response) -> Readiness:
        """Tell whether the service takes requests."""
        reason = self.unready_reason()
        if reason:
            response.status_code = 503
            response.headers["Retry-After"] = _RETRY_AFTER_S
        return Readiness(is_ready=not reason, reason=reason)

    async def metrics(self) -> Response:
        """Return the metrics of all processes in the Prometheus text format."""
        found = await self._runners.statistics(_STATISTICS_TIMEOUT_S)
        text = render_metrics() + render_triton_metrics(found)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    def unready_reason(self) -> str:
        """Say why no request should come here; empty where one may."""
        if self._drain.is_draining:
            return "the service is shutting down"
        return unready_reason(self._runners)
