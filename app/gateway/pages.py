"""The pages for people: the console and the API reference; nothing in them comes from elsewhere."""

import functools
import hashlib
import html
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from string import Template

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

_CONSOLE = files("app.console")
_SWAGGER_UI = files("fastapi_offline") / "static"
_SWAGGER_FILES = ("swagger-ui.css", "swagger-ui-bundle.js")
_MEDIA_TYPES = {
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
    "csv": "text/csv",
}
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def installed_version() -> str:
    """Return the version of gatecast; 0 in a checkout that is not installed."""
    try:
        return version("gatecast")
    except PackageNotFoundError:
        return "0"


class PageEndpoints:
    """``/``, ``/docs`` and the files they need; none of them tells anything about models."""

    def __init__(self) -> None:
        page = Template((_CONSOLE / "index.html").read_text("utf-8"))
        self._console = page.substitute(version=html.escape(installed_version()))
        self._docs = (_CONSOLE / "docs.html").read_text("utf-8")

    async def console(self, _: Request) -> Response:
        """Show the console: models, forecasts, backtests."""
        return _page(self._console)

    async def docs(self, _: Request) -> Response:
        """Show the API reference."""
        return _page(self._docs)

    async def asset(self, request: Request) -> Response:
        """Send one of the files that the pages load.

        A browser asks again each time, as modules of two versions must not meet; what it has
        already is answered in a few bytes.
        """
        name = request.path_params["asset_name"]
        if name not in _asset_names():
            raise HTTPException(404)
        content, tag = _asset(name)
        headers = {"Cache-Control": "no-cache", "ETag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        media_type = _MEDIA_TYPES[name.rpartition(".")[2]]
        return Response(content, headers=headers, media_type=media_type)


@functools.cache
def _asset_names() -> frozenset[str]:
    ours = (path.name for path in _CONSOLE.iterdir())
    return frozenset(n for n in (*ours, *_SWAGGER_FILES) if n.rpartition(".")[2] in _MEDIA_TYPES)


@functools.cache
def _asset(name: str) -> tuple[bytes, str]:
    folder = _SWAGGER_UI if name in _SWAGGER_FILES else _CONSOLE
    content = (folder / name).read_bytes()
    return content, f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def _page(content: str) -> Response:
    return HTMLResponse(content, headers={"Content-Security-Policy": _POLICY})
