"""``gatecast models``: look at the models of a running service and change what it serves."""

import functools
import http.client
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import click
import msgspec
from typing_extensions import override

from app.errors import RemoteError
from app.settings import Settings, load_settings

_TIMEOUT_S = 600
"""A load answers when the model is warm."""
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where a client finds those
_NOT_READY = 503


class IndexEntry(msgspec.Struct, frozen=True):
    """One version of the repository's index."""

    name: str
    version: str = ""
    state: str = ""
    reason: str = ""
    labels: tuple[str, ...] = ()
    share: float = 0.0
    task: str = ""


class _Refusal(msgspec.Struct):
    error: str = ""
    detail: str = ""


class RefusedError(RemoteError):
    """The service answered with an error status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Takes a redirect for an error: it would carry the key to another address."""

    @override
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Remote:
    """A running service.

    Args:
        url: Its address, such as ``http://127.0.0.1:8080``.
        api_key: A key, sent with every request; may be empty.

    Raises:
        RemoteError: The address is none of HTTP.
    """

    def __init__(self, url: str, api_key: str) -> None:
        if urlsplit(url).scheme not in {"http", "https"}:
            raise RemoteError(f"{url} is no http:// or https:// address")
        self._url = url.rstrip("/")
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._opener = urllib.request.build_opener(_NoRedirects, urllib.request.ProxyHandler({}))

    def index(self) -> list[IndexEntry]:
        """Return every version in the repository.

        Raises:
            RemoteError: The service refuses, is not there or is no gatecast.
        """
        try:
            return msgspec.json.decode(
                self._call("/v2/repository/index", b"{}"), type=list[IndexEntry]
            )
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RemoteError(f"{self._url} gave no repository index") from error

    def change(self, name: str, operation: str) -> None:
        """Load or unload a model.

        Raises:
            RemoteError: The service refuses or is not there.
        """
        self._call(f"/v2/repository/models/{quote(name, safe='')}/{operation}", b"{}")

    def set_label(self, name: str, label: str, version: int, share: float | None) -> None:
        """Have a label stand for a version; ``share`` None leaves its share as it is.

        Raises:
            RemoteError: The service refuses or is not there.
        """
        body = {"version": version} | ({} if share is None else {"share": share})
        self._call(_label_path(name, label), msgspec.json.encode(body), "PUT")

    def remove_label(self, name: str, label: str) -> None:
        """Remove a label.

        Raises:
            RemoteError: The service refuses, is not there or has no such label.
        """
        self._call(_label_path(name, label), None, "DELETE")

    def unready_reason(self, name: str) -> str:
        """Return why a model is not ready; empty where it is.

        Raises:
            RemoteError: The service refuses, is not there or has no such model.
        """
        try:
            self._call(f"/v2/models/{quote(name, safe='')}/ready")
        except RefusedError as error:
            if error.status != _NOT_READY:
                raise
            return str(error)
        return ""

    def _call(self, path: str, body: bytes | None = None, method: str | None = None) -> bytes:
        request = urllib.request.Request(  # noqa: S310 - HTTP
            self._url + path, body, self._headers, method=method
        )
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as answer:
                content: bytes = answer.read()
                return content
        except urllib.error.HTTPError as error:
            with error:
                raise RefusedError(_sentence_of(error), error.code) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise RemoteError(f"can not reach {self._url}: {reason}") from error


def default_url(settings: Settings) -> str:
    """Return where a service with these settings takes loads.

    Raises:
        RemoteError: Its port is any free one.
    """
    port = settings.port if settings.admin_port is None else settings.admin_port
    if port == 0:
        raise RemoteError("the settings name no port: give --url")
    host = _WILDCARDS.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


@click.group()
def models() -> None:
    """Look at the models of a running service and change what it serves."""


def _with_remote(command: Callable[..., None]) -> Callable[..., None]:
    """Give ``command`` the options that say which service, and the service in their place."""

    @click.option("--url", help="Address of the service [that of GATECAST_HOST and its port].")
    @click.option(
        "--api-key",
        envvar="GATECAST_API_KEY",
        default="",
        help="A key; one with the admin scope to change anything [GATECAST_API_KEY].",
    )
    @functools.wraps(command)
    def called(url: str | None, api_key: str, **arguments: Any) -> None:
        # Whether these settings may be served is not asked here.
        remote = Remote(url or default_url(load_settings(insecure=True)), api_key)
        command(remote, **arguments)

    return called


@models.command("list")
@_with_remote
def list_models(remote: Remote) -> None:
    """Show every version with its task, labels and share of the requests that name none."""
    rows = [("NAME", "VERSION", "STATE", "TASK", "LABELS", "SHARE", "REASON")]
    for entry in remote.index():
        share = f"{entry.share:.2%}".replace(".00", "")
        labels = ", ".join(entry.labels)
        about = (entry.name, entry.version, entry.state, entry.task)
        rows.append((*about, labels, share, entry.reason))
    _print_table(rows)


@models.command()
@click.argument("name")
@_with_remote
def load(remote: Remote, name: str) -> None:
    """Load the model NAME, or what is new of it."""
    remote.change(name, "load")
    click.echo(f"loaded {name}")


@models.command()
@click.argument("name")
@_with_remote
def unload(remote: Remote, name: str) -> None:
    """Unload the model NAME."""
    remote.change(name, "unload")
    click.echo(f"unloaded {name}")


@models.command()
@click.argument("name")
@click.argument("label")
@click.argument("version", type=click.IntRange(min=1), required=False)
@click.option(
    "--share",
    type=click.FloatRange(0, 1),
    help="Share of the requests without a version, from 0 to 1 [as it is].",
)
@click.option("--remove", is_flag=True, help="Remove the label, and its share.")
@_with_remote
def label(
    remote: Remote, *, name: str, label: str, version: int | None, share: float | None, remove: bool
) -> None:
    """Have LABEL stand for VERSION of the model NAME; `stable` gets what the shares leave."""
    if remove == (version is not None) or (remove and share is not None):
        raise click.UsageError("give a VERSION, or --remove alone")
    if version is None:
        remote.remove_label(name, label)
        click.echo(f"removed the label {label} of {name}")
    else:
        remote.set_label(name, label, version, share)
        click.echo(f"{label} is version {version} of {name}")


@models.command()
@click.argument("name", default="")
@_with_remote
def verify(remote: Remote, name: str) -> None:
    """Ask whether every model, or the model NAME, is ready; the exit status is 1 if one is not."""
    names = [name] if name else sorted({entry.name for entry in remote.index()})
    if not names:
        raise RemoteError("the repository has no models")
    reasons = {name: remote.unready_reason(name) for name in names}
    states = [(name, reason or "ready") for name, reason in reasons.items()]
    _print_table([("NAME", "STATE"), *states])
    if any(reasons.values()):
        sys.exit(1)


def _label_path(name: str, label: str) -> str:
    return f"/v2/repository/models/{quote(name, safe='')}/labels/{quote(label, safe='')}"


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def _sentence_of(error: urllib.error.HTTPError) -> str:
    """Return what the service said: ``error`` below ``/v2``, else a problem's ``detail``."""
    try:
        refusal = msgspec.json.decode(error.read(), type=_Refusal)
    except (msgspec.DecodeError, UnicodeDecodeError, OSError, http.client.HTTPException):
        refusal = _Refusal()
    said = refusal.error or refusal.detail or error.reason
    return " ".join(f"{error.code}: {said}".split())
