"""The steps in which every native request is answered, whatever the task of its model."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from functools import partial
from typing import Generic, Protocol, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope

from app.gateway.bodies import Bodies
from app.gateway.body import cancel_when_caller_leaves
from app.gateway.catalog import Catalog, ReadyModel
from app.gateway.exchange import Answer, exchange_of, header_of
from app.gateway.parameters import TRAFFIC_KEY
from app.settings import Settings

_HEADERS = ((b"content-type", b"application/json"),)

_Model = TypeVar("_Model", bound=ReadyModel)
_Prepared = TypeVar("_Prepared")
_Answered = TypeVar("_Answered")


class NativeService(Protocol):
    """Runs the models of a task."""

    def check_room(self, model_name: str) -> None:
        """Refuse early what the runners would refuse, as ``Runners.check_room``."""
        ...


class NativeEndpoints(ABC, Generic[_Model, _Prepared, _Answered]):
    """``POST /v1/models/{model_name}/{task}``, and the same with a version, for one task.

    A subclass says what the task is: how a model is found, what is read from a body, how that is
    run, and what is written.
    """

    def __init__(
        self, service: NativeService, catalog: Catalog, bodies: Bodies, settings: Settings
    ) -> None:
        self._check_room = service.check_room
        self._catalog = catalog
        self._bodies = bodies
        self._request_timeout_s = settings.request_timeout_s

    async def answer(
        self,
        scope: Scope,
        receive: Receive,
        model_name: str,
        model_version: str | None,
        *,
        timeout_ms: int,
    ) -> Response:
        """Answer a JSON body; None means the default version, or one with a share.

        Raises:
            GatecastError: There is no such model, it has another task, the request is wrong, or it
                can not be run now.
            CallerLeftError: The caller closed the connection.
        """
        model = self._find(scope, model_name, model_version)
        self._check_room(model.model_name)
        prepared = await self._bodies.read(scope, receive, partial(self._prepare, model))
        limit_s = min(self._request_timeout_s, timeout_ms / 1000)
        with cancel_when_caller_leaves(receive):
            deadline = exchange_of(scope).started + limit_s
            answered = await self._run(scope, model, prepared, deadline=deadline)
            if self._is_small(answered):
                content = self._encode(answered)
            else:
                content = await asyncio.to_thread(self._encode, answered)
        return Answer(content, _HEADERS)

    def _find(self, scope: Scope, model_name: str, model_version: str | None) -> _Model:
        if model_version is None:
            model_version = self._catalog.draw(model_name, header_of(scope, TRAFFIC_KEY))
        model = self._find_able(model_name, model_version)
        exchange_of(scope).name_model(model.model_name, model.model_version, model.digest)
        return model

    @abstractmethod
    def _find_able(self, model_name: str, model_version: str | None) -> _Model:
        """Find a version that has the task, as ``Catalog.find_able``."""

    @abstractmethod
    def _prepare(self, model: _Model, body: bytes) -> _Prepared:
        """Read and check a body; it only computes, a large body on another thread."""

    @abstractmethod
    def _run(
        self, scope: Scope, model: _Model, prepared: _Prepared, *, deadline: float
    ) -> Awaitable[_Answered]:
        """Run what was prepared, up to a time of ``time.monotonic()``."""

    @abstractmethod
    def _is_small(self, answered: _Answered) -> bool:
        """Whether an answer is written faster than it is handed to another thread."""

    @abstractmethod
    def _encode(self, answered: _Answered) -> bytes:
        """Write an answer as JSON."""
