"""What is known of one request while it is answered: for its log line and its metrics."""

import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from starlette.responses import Response
from starlette.types import Scope

from app.gateway.dialect_table import ErrorForm

UNMATCHED_ROUTE = "unmatched"
CALLER_LEFT_STATUS = 499

EXCHANGE_KEY = "gatecast.exchange"
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(slots=True)
class Exchange:
    """One request and its answer; times are of ``time.monotonic()``.

    Of a header that comes several times, ``headers`` holds the first.
    """

    method: str
    request_id: str
    headers: Mapping[bytes, bytes]
    started: float = field(default_factory=time.monotonic)
    route: str = UNMATCHED_ROUTE
    model_name: str = ""
    model_version: str = ""
    model_digest: str = ""
    key_id: str = ""
    error_form: ErrorForm | None = None
    status: int = 0
    num_bytes: int = 0

    def name_model(self, model_name: str, model_version: int, digest: str) -> None:
        """Say which version answers."""
        self.model_name, self.model_version = model_name, str(model_version)
        self.model_digest = digest

    @property
    def duration_s(self) -> float:
        """Seconds since the request began."""
        return time.monotonic() - self.started


WHOLE_ANSWER = "gatecast.answer"
"""Type of the message by which an ``Answer`` is sent whole, under ``answer``."""

Header = tuple[bytes, bytes]


class Answer(Response):
    """A whole answer of status 200, with its headers as they are sent; only its length is added."""

    def __init__(self, body: bytes, headers: tuple[Header, ...]) -> None:
        # The constructor of Response would put together what is known here.
        self.status_code = HTTPStatus.OK.value
        self.background = None
        self.body = body
        self.headers_but_length = headers
        self.raw_headers = [*headers, (b"content-length", b"%d" % len(body))]


def begin_exchange(scope: Scope) -> Exchange:
    """Start to record the request of ``scope``; a sane ``X-Request-ID`` becomes its id."""
    headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))
    request_id = choose_request_id(headers.get(b"x-request-id", b""))
    exchange = Exchange(scope["method"], request_id, headers)
    scope[EXCHANGE_KEY] = exchange
    return exchange


def choose_request_id(given: bytes) -> str:
    """Return the id that the caller has given, where it is a sane one, else a new one."""
    if given:
        text = given.decode("latin-1")
        if _SANE_REQUEST_ID.fullmatch(text):
            return text
    return secrets.token_hex(16)


def exchange_of(scope: Scope) -> Exchange:
    """Return the record of the request of ``scope``."""
    exchange: Exchange = scope[EXCHANGE_KEY]
    return exchange


def owner_of(scope: Scope) -> str | None:
    """Return the key for which states may be kept; None where the caller wants none kept.

    ``Cache-Control: no-store`` in a request says so (RFC 9111, section 5.2.1.5).
    """
    directives = header_of(scope, b"cache-control").lower().split(",")
    return None if "no-store" in map(str.strip, directives) else exchange_of(scope).key_id


def header_of(scope: Scope, name: bytes) -> str:
    """Return the first header of that lower-case name, or an empty text."""
    return exchange_of(scope).headers.get(name, b"").decode("latin-1")
