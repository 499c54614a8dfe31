"""SageMaker's contract with a container: ``/ping``, ``/invocations``, ``/execution-parameters``.

An invocation with ``instances`` or of JSON Lines speaks DeepAR, one with ``inputs`` Chronos.
"""

from typing import Annotated

import msgspec
from fastapi import Request
from msgspec import UNSET, Meta, Struct, UnsetType
from starlette.responses import Response

from app.errors import InvalidInputError, ModelNotReadyError, StartupError
from app.gateway.decoding import decode_body, decode_lines
from app.gateway.dialects.adapter import JSON, Adapter, Question
from app.gateway.dialects.chronos import ChronosInput, ChronosParameters, understand_inputs
from app.gateway.dialects.deepar import (
    DeepArConfiguration,
    DeepArInstance,
    decode_configuration,
    understand_instances,
)
from app.gateway.health import HealthEndpoints

JSON_LINES = "application/jsonlines"

_MEGABYTE = 2**20


class Invocation(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Either DeepAR's two fields or those of Chronos."""

    instances: Annotated[list[DeepArInstance], Meta(min_length=1)] | UnsetType = UNSET
    configuration: DeepArConfiguration | UnsetType = UNSET
    inputs: Annotated[list[ChronosInput], Meta(min_length=1)] | UnsetType = UNSET
    parameters: ChronosParameters | UnsetType = UNSET


_decoder = msgspec.json.Decoder(Invocation)
_line_decoder = msgspec.json.Decoder(DeepArInstance)


class SageMakerEndpoints:
    """The routes of a container on SageMaker."""

    def __init__(self, adapter: Adapter, health: HealthEndpoints) -> None:
        self._adapter = adapter
        self._health = health
        self._spoken = adapter.settings.dialect_names
        try:
            self._configuration = decode_configuration(adapter.settings.deepar_inference_config)
        except InvalidInputError as error:
            raise StartupError(str(error)) from error

    async def ping(self) -> Response:
        """Answer 200 with nothing where forecasts can be made."""
        if reason := self._health.unready_reason():
            raise ModelNotReadyError(reason)
        return Response()

    async def execution_parameters(self) -> dict[str, int | str]:
        """Tell batch transform how to cut its work."""
        settings = self._adapter.settings
        return {
            "MaxConcurrentTransforms": settings.gateways * settings.max_batch_size,
            "BatchStrategy": "MULTI_RECORD",
            "MaxPayloadInMB": max(1, settings.max_body_bytes // _MEGABYTE),
        }

    async def invocations(self, request: Request) -> Response:
        """Forecast the series of a DeepAR request, JSON Lines as well, or of a Chronos one."""
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        is_lines = content_type == JSON_LINES and "sagemaker" in self._spoken
        return await self._adapter.answer(
            request,
            self._understand_lines if is_lines else self._understand,
            media_types=(JSON, JSON_LINES) if "sagemaker" in self._spoken else (JSON,),
        )

    def _understand_lines(self, body: bytes) -> Question:
        instances = decode_lines(body, _line_decoder, "instances")
        return understand_instances(self._adapter, instances, self._configuration, as_lines=True)

    def _understand(self, body: bytes) -> Question:
        asked = decode_body(body, _decoder)
        if not isinstance(asked.instances, UnsetType) and "sagemaker" in self._spoken:
            _refuse(asked, ("inputs", "parameters"), beside="instances")
            configuration = asked.configuration or DeepArConfiguration()
            return understand_instances(
                self._adapter, asked.instances, configuration, as_lines=False
            )
        if not isinstance(asked.inputs, UnsetType) and "chronos" in self._spoken:
            _refuse(asked, ("instances", "configuration"), beside="inputs")
            parameters = asked.parameters or ChronosParameters()
            return understand_inputs(self._adapter, asked.inputs, parameters)
        fields = {"sagemaker": "`instances` (DeepAR)", "chronos": "`inputs` (Chronos)"}
        known = " or ".join(text for name, text in fields.items() if name in self._spoken)
        raise InvalidInputError(f"the body must have {known}")


def _refuse(asked: Invocation, fields: tuple[str, str], *, beside: str) -> None:
    for field in fields:
        if getattr(asked, field) is not UNSET:
            raise InvalidInputError(f"unknown field {field} beside {beside}", f"/{field}")
