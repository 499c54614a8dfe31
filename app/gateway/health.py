"""Probes and metrics."""

import asyncio
from collections.abc import Sequence
from typing import Literal

from fastapi import Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from app.errors import GatecastError
from app.gateway.catalog import unready_reason
from app.gateway.drain import Drain
from app.gateway.runner_client import Runners
from app.gateway.triton_metrics import render_triton_metrics
from app.metrics import render_metrics
from app.statistics import VersionStatistics

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
        triton = render_triton_metrics(await self._statistics())
        return Response(render_metrics() + triton, media_type=CONTENT_TYPE_LATEST)

    async def _statistics(self) -> Sequence[VersionStatistics]:
        """Ask the runners; metrics of the other processes do not wait for one that hangs."""
        try:
            async with asyncio.timeout(_STATISTICS_TIMEOUT_S):
                return await self._runners.statistics()
        except (GatecastError, TimeoutError):
            return []

    def unready_reason(self) -> str:
        """Say why no request should come here; empty where one may."""
        if self._drain.is_draining:
            return "the service is shutting down"
        return unready_reason(self._runners)
