"""The Open Inference Protocol v2 beside inference: health, descriptions, statistics, repository."""

from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import Request
from starlette.responses import JSONResponse, Response

from app.errors import InvalidInputError, NotSupportedError
from app.gateway import oip_models
from app.gateway.body import read_body
from app.gateway.catalog import Catalog, ServedModel
from app.gateway.exchange import exchange_of
from app.gateway.health import HealthEndpoints
from app.gateway.parameters import ModelName, VersionOrLabel
from app.gateway.runners import ChangeAction, ModelVersion, Runners
from app.settings import Settings
from app.statistics import VersionStatistics

SERVER_NAME = "gatecast"
EXTENSIONS = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "sequence",
    "sequence(string_id)",
    "statistics",
)

Json = dict[str, Any]


class _IndexRequest(msgspec.Struct):
    ready: bool = False


class _ChangeRequest(msgspec.Struct):
    parameters: dict[str, Any] = {}


_IGNORED_PARAMETERS = {"unload_dependents"}
"""No model depends on another."""


class OipEndpoints:
    """Everything below ``/v2`` except inference; all bodies are small JSON, never compressed."""

    def __init__(self, runners: Runners, health: HealthEndpoints, settings: Settings) -> None:
        self._runners = runners
        self._catalog = Catalog(runners)
        self._health = health
        self._settings = settings

    async def server_metadata(self, request: Request) -> Json:
        """Name the server, its version and the extensions of the protocol that it has."""
        return {"name": SERVER_NAME, "version": request.app.version, "extensions": EXTENSIONS}

    async def server_live(self) -> Json:
        """Tell that the process lives."""
        return {"live": True}

    async def server_ready(self) -> Response:
        """Tell whether the service takes requests."""
        if reason := self._health.unready_reason():
            content = {"ready": False, "error": reason}
            return JSONResponse(
                content, HTTPStatus.SERVICE_UNAVAILABLE, headers={"Retry-After": "1"}
            )
        return JSONResponse({"ready": True})

    async def model_ready(self, model_name: ModelName) -> Json:
        """Tell whether a model can be run."""
        return self._ready(model_name, None)

    async def version_ready(self, model_name: ModelName, model_version: VersionOrLabel) -> Json:
        """Tell whether one version of a model can be run."""
        return self._ready(model_name, model_version)

    async def model_metadata(self, model_name: ModelName) -> Json:
        """Describe the tensors of the default version of a model."""
        return self._metadata(model_name, None)

    async def version_metadata(self, model_name: ModelName, model_version: VersionOrLabel) -> Json:
        """Describe the tensors of one version of a model."""
        return self._metadata(model_name, model_version)

    async def model_config(self, model_name: ModelName) -> Json:
        """Describe how the default version of a model is run."""
        return self._config(model_name, None)

    async def version_config(self, model_name: ModelName, model_version: VersionOrLabel) -> Json:
        """Describe how one version of a model is run."""
        return self._config(model_name, model_version)

    async def all_statistics(self) -> Json:
        """Return what all models have done since the service started.

        A model may be named ``stats``: then its metadata stand beside the statistics.
        """
        content = _model_stats(await self._statistics())
        ready = {version.model_name for version in self._runners.models() if version.is_ready}
        return content | self._metadata("stats", None) if "stats" in ready else content

    async def model_statistics(self, request: Request, model_name: ModelName) -> Json:
        """Return what the ready versions of a model have done since the service started."""
        model = self._catalog.find(model_name)
        exchange_of(request.scope).model_name = model.model_name
        found = await self._statistics()
        return _model_stats([one for one in found if one.model_name == model_name])

    async def version_statistics(
        self, model_name: ModelName, model_version: VersionOrLabel
    ) -> Json:
        """Return what one version of a model has done since the service started."""
        model = self._catalog.find_ready(model_name, model_version)
        key = (model.model_name, model.model_version)
        found = await self._statistics()
        return _model_stats([one for one in found if (one.model_name, one.model_version) == key])

    async def repository_index(self, request: Request) -> Response:
        """List every version in the repository, and why it is not ready where it is not."""
        is_ready_only = _read_index_request(await self._read(request)).ready
        entries = [
            _index_entry(model, version)
            for model in self._catalog.models()
            for version in model.versions
            if version.is_ready or not is_ready_only
        ]
        return JSONResponse(entries)

    async def load_model(self, request: Request, model_name: ModelName) -> Json:
        """Serve what is new of a model, in place of what is served now."""
        return await self._change("load", request, model_name)

    async def unload_model(self, request: Request, model_name: ModelName) -> Json:
        """Serve a model no more; requests that have chosen it are still answered."""
        return await self._change("unload", request, model_name)

    async def _change(self, action: ChangeAction, request: Request, model_name: str) -> Json:
        if self._settings.model_control != "explicit":
            raise NotSupportedError(
                "models are loaded and unloaded by request only where GATECAST_MODEL_CONTROL is"
                f" explicit; it is {self._settings.model_control}"
            )
        parameters = _read_change_request(await self._read(request)).parameters
        if parameters.keys() - _IGNORED_PARAMETERS:
            raise NotSupportedError(
                "a model's file and config come from the model repository alone"
            )
        await self._runners.change(action, model_name)
        exchange_of(request.scope).model_name = model_name  # it labels metrics, for ever
        return {}

    async def _statistics(self) -> list[VersionStatistics]:
        return list(await self._runners.statistics(self._settings.watchdog_s))

    async def _read(self, request: Request) -> bytes:
        return await read_body(
            request.scope,
            request.receive,
            encodings=(),
            max_bytes=self._settings.max_body_bytes,
            timeout_s=self._settings.body_timeout_s,
        )

    def _ready(self, model_name: str, model_version: str | None) -> Json:
        model = self._catalog.find_ready(model_name, model_version)
        return {"name": model.model_name, "ready": True}

    def _metadata(self, model_name: str, model_version: str | None) -> Json:
        model = self._catalog.find_ready(model_name, model_version)
        return oip_models.metadata(model, self._catalog.find(model_name))

    def _config(self, model_name: str, model_version: str | None) -> Json:
        model = self._catalog.find_ready(model_name, model_version)
        cap = self._runners.batch_size_cap(model.model_name, model.model_version)
        settings = model.config.for_model(self._settings)
        return oip_models.config(model, settings, batch_size_cap=cap)


def _model_stats(found: list[VersionStatistics]) -> Json:
    return {"model_stats": [oip_models.statistics(one) for one in found]}


def _index_entry(model: ServedModel, version: ModelVersion) -> Json:
    """Describe a version.

    The reason of one that is ready is why a new config does not count; one that is served as
    tensors alone has no task.
    """
    return {
        "name": version.model_name,
        "version": str(version.model_version),
        "state": "READY" if version.is_ready else "UNAVAILABLE",
        "reason": version.reason or version.config_refusal,
        "sha256": version.digest,
        "labels": model.labels_of(version.model_version),
        "share": model.share_of(version.model_version),
        "task": version.card.task if version.card is not None else "",
    }


def _read_index_request(body: bytes) -> _IndexRequest:
    try:
        return msgspec.json.decode(body or b"{}", type=_IndexRequest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError("the body must be empty, or an object with ready") from error


def _read_change_request(body: bytes) -> _ChangeRequest:
    try:
        return msgspec.json.decode(body or b"{}", type=_ChangeRequest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError("the body must be empty, or an object with parameters") from error
