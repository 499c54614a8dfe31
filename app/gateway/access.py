"""Who may call what: one table over all routes, and the layer that enforces it."""

from collections.abc import Mapping, Sequence
from enum import Enum
from functools import lru_cache
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import ForbiddenError, StartupError, UnauthorizedError
from app.gateway.dialect_table import dialect_routes
from app.gateway.exchange import exchange_of, header_of
from app.gateway.runners import CALLER
from app.keys import Key, KeyRing
from app.settings import Settings

_MOST_KNOWN_PATHS = 1024
_LONGEST_KNOWN_PATH = 256
"""Callers choose paths: what is remembered of them must stay small."""


class Access(Enum):
    """What a route asks of its caller, where the service has keys.

    A route for administrators is also bound to the port for them, where there is one.
    """

    PUBLIC = "public"
    KEY = "key"
    ADMIN = "admin"


ACCESS: Mapping[str, Access] = {
    "/v1/models/{model_name}/forecast": Access.KEY,
    "/v1/models/{model_name}/versions/{model_version}/forecast": Access.KEY,
    "/v1/models/{model_name}/streams": Access.KEY,
    "/v1/models/{model_name}/streams/{stream_id}": Access.KEY,
    "/v1/models/{model_name}/streams/{stream_id}/observations": Access.KEY,
    "/v1/models/{model_name}/streams/{stream_id}/forecast": Access.KEY,
    "/v1/models/{model_name}/classify": Access.KEY,
    "/v1/models/{model_name}/versions/{model_version}/classify": Access.KEY,
    "/v1/models/{model_name}/regress": Access.KEY,
    "/v1/models/{model_name}/versions/{model_version}/regress": Access.KEY,
    "/v1/models/{model_name}/tag": Access.KEY,
    "/v1/models/{model_name}/versions/{model_version}/tag": Access.KEY,
    "/v1/series": Access.KEY,
    "/v1/jobs": Access.KEY,
    "/v1/jobs/{job_id}": Access.KEY,
    "/v1/jobs/{job_id}/cancel": Access.KEY,
    "/v1/jobs/{job_id}/result": Access.KEY,
    "/v1/jobs/{job_id}/errors": Access.KEY,
    "/v1/models": Access.KEY,
    "/v1/models/{model_name}": Access.KEY,
    "/v1/models/{model_name}/versions/{model_version}": Access.KEY,
    "/v2": Access.PUBLIC,
    "/v2/health/live": Access.PUBLIC,
    "/v2/health/ready": Access.PUBLIC,
    "/v2/models/stats": Access.KEY,
    "/v2/models/{model_name}": Access.KEY,
    "/v2/models/{model_name}/versions/{model_version}": Access.KEY,
    "/v2/models/{model_name}/ready": Access.KEY,
    "/v2/models/{model_name}/versions/{model_version}/ready": Access.KEY,
    "/v2/models/{model_name}/config": Access.KEY,
    "/v2/models/{model_name}/versions/{model_version}/config": Access.KEY,
    "/v2/models/{model_name}/stats": Access.KEY,
    "/v2/models/{model_name}/versions/{model_version}/stats": Access.KEY,
    "/v2/models/{model_name}/infer": Access.KEY,
    "/v2/models/{model_name}/versions/{model_version}/infer": Access.KEY,
    "/v2/repository/index": Access.KEY,
    "/v2/repository/models/{model_name}/load": Access.ADMIN,
    "/v2/repository/models/{model_name}/unload": Access.ADMIN,
    "/v2/repository/models/{model_name}/labels/{label}": Access.ADMIN,
    "/metrics": Access.KEY,
    "/livez": Access.PUBLIC,
    "/readyz": Access.PUBLIC,
    "/openapi.json": Access.PUBLIC,
    "/docs": Access.PUBLIC,
    "/assets/{asset_name}": Access.PUBLIC,
    "/": Access.PUBLIC,
}


def access_table(settings: Settings) -> dict[str, Access]:
    """Return the whole table: the service's own routes and those of the dialects that are on."""
    table = dict(ACCESS)
    for routes in dialect_routes(settings).values():
        for route in routes:
            own = Access.PUBLIC if route.is_probe else Access.KEY
            table.setdefault(route.path, own)
    return table


def check_access_table(
    routes: Sequence[BaseRoute], access: Mapping[str, Access] = ACCESS
) -> list[Route]:
    """Compare the table with the routes there are, and return these.

    Raises:
        StartupError: A route is missing from the table, is of a kind that can not be in it, or the
            table names no route.
    """
    known = [route for route in routes if isinstance(route, Route)]
    if len(known) != len(routes):
        raise StartupError("access table: every route must be a plain route, no mount")
    templates = {route.path for route in known}
    if missing := templates - access.keys():
        raise StartupError(f"access table: no entry for {', '.join(sorted(missing))}")
    if stale := access.keys() - templates:
        raise StartupError(f"access table: no route for {', '.join(sorted(stale))}")
    return known


class Guard:
    """Finds the route of a request and refuses callers without a key where it asks for one.

    Args:
        app: The application.
        routes: All its routes, in their order.
        settings: Say which dialects there are, and the port for administrators.
        key_ring: The keys; None leaves everything open.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        routes: Sequence[Route],
        settings: Settings,
        key_ring: KeyRing | None,
    ) -> None:
        self._app = app
        self._routes = routes
        self._find_known_route = lru_cache(_MOST_KNOWN_PATHS)(self._find_route)
        self._key_ring = key_ring
        self._admin_port = settings.admin_port
        self._access = access_table(settings)
        self._error_forms = {
            route.path: route.error_form
            for routes in dialect_routes(settings).values()
            for route in routes
            if route.path not in ACCESS
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or raise.

        Raises:
            UnauthorizedError: Its key is missing or not known.
            ForbiddenError: It may not do what its route does.
            HTTPException: Its route is not served on the port that it came to.
        """
        if scope["type"] == "http" and (route := self._route_of(scope)):
            exchange = exchange_of(scope)
            exchange.route = route
            exchange.error_form = self._error_forms.get(route)
            if self._access[route] is Access.ADMIN:
                self._check_admin(scope)
            elif self._access[route] is Access.KEY and self._key_ring is not None:
                exchange.key_id = identify(exchange.headers, self._key_ring).key_id
                CALLER.set(exchange.key_id)
        await self._app(scope, receive, send)

    def _check_admin(self, scope: Scope) -> None:
        if self._admin_port not in {None, scope["server"][1]}:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        if self._key_ring is None:
            # Where everything is open, a page of any site could post here from a browser nearby.
            if header_of(scope, b"origin"):
                raise ForbiddenError("without API keys, browsers may not change models")
            return
        key = identify(exchange_of(scope).headers, self._key_ring)
        exchange_of(scope).key_id = key.key_id
        if not key.is_admin:
            raise ForbiddenError("changing models needs a key with the admin scope")

    def _route_of(self, scope: Scope) -> str | None:
        path: str = scope["path"]
        find = self._find_known_route if len(path) <= _LONGEST_KNOWN_PATH else self._find_route
        return find(scope["method"], path, scope["root_path"])

    def _find_route(self, method: str, path: str, root_path: str) -> str | None:
        """Return the template that the router will take; one for other methods comes second."""
        scope = {"type": "http", "method": method, "path": path, "root_path": root_path}
        partial: str | None = None
        for route in self._routes:
            match, _ = route.matches(scope)
            if match is Match.FULL:
                return route.path
            if match is Match.PARTIAL and partial is None:
                partial = route.path
        return partial


def identify(headers: Mapping[bytes, bytes], key_ring: KeyRing) -> Key:
    """Return the key that a request came with.

    Raises:
        UnauthorizedError: It is missing or not known.
    """
    scheme, _, credentials = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    bearer = credentials.strip() if scheme.lower() == "bearer" else ""
    for text in (bearer, headers.get(b"x-api-key", b"").decode("latin-1").strip()):
        if text and (key := key_ring.identify(text)):
            return key
    raise UnauthorizedError("send a valid API key as `Authorization: Bearer` or `X-API-Key`")
