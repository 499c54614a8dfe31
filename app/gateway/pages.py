"""The pages for people: front page and API reference; nothing in them comes from elsewhere."""

import html
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from string import Template

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from app.gateway.catalog import Catalog, ServedModel
from app.gateway.health import HealthEndpoints

_PAGES = files("app.gateway") / "page_files"
_SWAGGER_UI = files("fastapi_offline") / "static"
_ASSETS = {
    "pages.css": (_PAGES / "pages.css", "text/css"),
    "docs.js": (_PAGES / "docs.js", "text/javascript"),
    "swagger-ui.css": (_SWAGGER_UI / "swagger-ui.css", "text/css"),
    "swagger-ui-bundle.js": (_SWAGGER_UI / "swagger-ui-bundle.js", "text/javascript"),
}
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ASSET_HEADERS = {"Cache-Control": "public, max-age=3600"}


def installed_version() -> str:
    """Return the version of gatecast; 0 in a checkout that is not installed."""
    try:
        return version("gatecast")
    except PackageNotFoundError:
        return "0"


class PageEndpoints:
    """``/``, ``/docs`` and the files they need.

    Args:
        catalog: The models.
        health: Tells the readiness.
        shows_models: Whether the front page, which asks for no key, may name the models.
    """

    def __init__(self, catalog: Catalog, health: HealthEndpoints, *, shows_models: bool) -> None:
        self._catalog = catalog
        self._health = health
        self._shows_models = shows_models
        self._home = Template((_PAGES / "home.html").read_text("utf-8"))
        self._docs = (_PAGES / "docs.html").read_text("utf-8")

    async def home(self, _: Request) -> Response:
        """Show what this service is, whether it is ready and which models it has."""
        reason = self._health.unready_reason()
        page = self._home.substitute(
            version=html.escape(installed_version()),
            state="ready" if not reason else "not-ready",
            readiness="ready" if not reason else html.escape(f"not ready: {reason}"),
            models=self._models(),
        )
        return _page(page)

    async def docs(self, _: Request) -> Response:
        """Show the API reference."""
        return _page(self._docs)

    async def asset(self, request: Request) -> Response:
        """Send one of the files that the pages load."""
        found = _ASSETS.get(request.path_params["asset_name"])
        if found is None:
            raise HTTPException(404)
        path, media_type = found
        return Response(path.read_bytes(), headers=_ASSET_HEADERS, media_type=media_type)

    def _models(self) -> str:
        if not self._shows_models:
            return "<p>With an API key, <code>GET /v1/models</code> lists the models.</p>"
        models = self._catalog.models()
        if not models:
            return "<p>No model is served.</p>"
        return (
            "<table><thead><tr><th>Model</th><th>Version</th><th>Frequency</th><th>Horizon</th>"
            f"<th>State</th></tr></thead><tbody>{''.join(map(_model_row, models))}</tbody></table>"
        )


def _model_row(model: ServedModel) -> str:
    default = model.default
    card = default.card
    cells = (
        default.model_version,
        (card.freq or "any") if card else "tensors" if default.is_ready else "",
        card.horizon if card else "",
        "ready" if default.is_ready else f"not ready: {default.reason}",
    )
    name = html.escape(model.model_name)
    link = f'<a href="v1/models/{name}">{name}</a>'
    return f"<tr><td>{link}</td>{_cells(cells)}</tr>"


def _cells(values: Iterable[object]) -> str:
    return "".join(f"<td>{html.escape(str(value))}</td>" for value in values)


def _page(content: str) -> Response:
    return HTMLResponse(content, headers={"Content-Security-Policy": _POLICY})
