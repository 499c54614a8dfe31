"""Vertex AI's contract with a custom container: a health route and a predict route.

Their paths, and the port, are what ``AIP_HEALTH_ROUTE``, ``AIP_PREDICT_ROUTE`` and
``AIP_HTTP_PORT`` say.
"""

from fastapi import Request
from starlette.responses import Response

from app.errors import ModelNotReadyError
from app.gateway.dialects.adapter import Adapter
from app.gateway.dialects.instances import understand_instances
from app.gateway.health import HealthEndpoints


class VertexEndpoints:
    """The two routes of a container on Vertex AI."""

    def __init__(self, adapter: Adapter, health: HealthEndpoints) -> None:
        self._adapter = adapter
        self._health = health

    async def health(self) -> Response:
        """Answer 200 where forecasts can be made."""
        if reason := self._health.unready_reason():
            raise ModelNotReadyError(reason)
        return Response(b"{}", media_type="application/json")

    async def predict(self, request: Request) -> Response:
        """Forecast the series in `instances`."""
        return await self._adapter.answer(
            request, lambda body: understand_instances(self._adapter, body, None)
        )
