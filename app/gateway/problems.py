"""The only table from exceptions to HTTP statuses.

The bodies made from it are in ``app.gateway.error_bodies``: a problem (RFC 9457) on native routes,
``{"error": "one sentence"}`` below ``/v2``, and on routes of a dialect what its clients expect.

Every class of ``app.errors`` has a row. Anything that is not in the table is a bug of ours: status
500, logged with its traceback, and the connection is closed.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import orjson
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from app import errors
from app.errors import InvalidInputError, InvalidSeriesError, RetryableError
from app.gateway.dialect_table import ErrorForm
from app.gateway.error_bodies import ERROR_BODIES, Failure
from app.gateway.exchange import exchange_of
from app.logs import REQUEST_ID

MAX_LISTED_ERRORS = 100

_MAX_INSTANCE_LENGTH = 256
_INTERNAL = "the request failed inside the service; its log tells more under this request id"
_HTTP_DETAILS = {
    404: "nothing is served at this path; /docs lists what is",
    405: "this path does not take that method; the Allow header lists those it takes",
}
_OIP_NOT_FOUND = (
    "nothing is served at this path; of the protocol's extensions, tracing, log settings and"
    " shared memory are not part of this service"
)

logger = logging.getLogger("gatecast.gateway")


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """What an exception becomes; ``is_internal`` hides its message from the caller and logs it."""

    status: int
    type: str
    title: str
    is_internal: bool = False


_BUG = ProblemKind(500, "about:blank", "Internal Server Error", is_internal=True)

PROBLEM_KINDS: Mapping[type[Exception], ProblemKind] = {
    errors.GatecastError: _BUG,
    errors.MalformedBodyError: ProblemKind(400, "malformed-body", "The body can not be read"),
    errors.InvalidInputError: ProblemKind(422, "invalid-input", "The input is not valid"),
    errors.InvalidSeriesError: ProblemKind(422, "invalid-series", "No series is valid"),
    errors.PayloadTooLargeError: ProblemKind(413, "payload-too-large", "The body is too large"),
    errors.UnsupportedMediaTypeError: ProblemKind(
        415, "unsupported-media-type", "The content type is not supported"
    ),
    errors.BodyTimeoutError: ProblemKind(408, "body-timeout", "The body arrived too slowly"),
    errors.UnauthorizedError: ProblemKind(401, "unauthorized", "An API key is needed"),
    errors.ForbiddenError: ProblemKind(403, "forbidden", "The caller may not do this"),
    errors.ModelNotFoundError: ProblemKind(404, "model-not-found", "There is no such model"),
    errors.NoForecasterError: ProblemKind(409, "no-forecaster", "The model makes no forecasts"),
    errors.WrongTaskError: ProblemKind(409, "wrong-task", "The model has another task"),
    errors.UnknownSequenceError: ProblemKind(400, "unknown-sequence", "There is no such sequence"),
    errors.SequenceConflictError: ProblemKind(
        409, "sequence-conflict", "The sequence can not go on"
    ),
    errors.StreamNotFoundError: ProblemKind(404, "stream-not-found", "There is no such stream"),
    errors.StreamLostError: ProblemKind(410, "stream-lost", "The stream is lost"),
    errors.StreamConflictError: ProblemKind(
        409, "stream-conflict", "The observations do not follow on the stream"
    ),
    errors.StreamLimitError: ProblemKind(429, "too-many-streams", "There are too many streams"),
    errors.ModelRefusedError: ProblemKind(422, "model-refused", "The model file is refused"),
    errors.ConfigError: ProblemKind(422, "config-refused", "The model's config.toml is refused"),
    errors.NotSupportedError: ProblemKind(501, "not-supported", "The service does not do this"),
    errors.JobsOffError: ProblemKind(404, "jobs-off", "Bulk jobs are switched off"),
    errors.JobNotFoundError: ProblemKind(404, "job-not-found", "There is no such job"),
    errors.JobConflictError: ProblemKind(409, "job-conflict", "The job's state does not allow it"),
    errors.IdempotencyKeyReusedError: ProblemKind(
        422, "idempotency-key-reused", "The Idempotency-Key was used for something else"
    ),
    errors.TooManyJobsError: ProblemKind(429, "too-many-jobs", "The key has too many jobs"),
    errors.RetryableError: ProblemKind(503, "unavailable", "Try again later"),
    errors.ModelNotReadyError: ProblemKind(503, "model-not-ready", "The model is not ready"),
    errors.OverloadedError: ProblemKind(503, "overloaded", "The service is overloaded"),
    errors.StreamStoreError: ProblemKind(503, "stream-store", "The streams are out of reach now"),
    errors.StorageError: ProblemKind(503, "storage", "The disk takes nothing more now"),
    errors.ShuttingDownError: ProblemKind(503, "shutting-down", "The service is shutting down"),
    errors.DeadlineExceededError: ProblemKind(504, "deadline-exceeded", "The time ran out"),
    errors.EngineError: ProblemKind(500, "engine-error", "The model run failed", is_internal=True),
    errors.ModelOutputError: ProblemKind(
        500, "model-output-invalid", "The model gave no finite numbers", is_internal=True
    ),
    errors.OutOfMemoryError: ProblemKind(
        500, "engine-error", "The model run failed", is_internal=True
    ),
    errors.DeviceLostError: ProblemKind(
        500, "engine-error", "The model run failed", is_internal=True
    ),
    errors.ArtifactError: ProblemKind(
        500, "artifact-error", "The model file is broken", is_internal=True
    ),
    errors.BulkRunError: _BUG,
    errors.RemoteError: _BUG,
    errors.StartupError: _BUG,
    RequestValidationError: ProblemKind(422, "invalid-request", "The request is not valid"),
}


def problem_kind(error: Exception) -> ProblemKind:
    """Return the row of the closest class of ``error``."""
    if isinstance(error, HTTPException):
        return ProblemKind(error.status_code, "about:blank", _phrase(error.status_code))
    return next((PROBLEM_KINDS[c] for c in type(error).__mro__ if c in PROBLEM_KINDS), _BUG)


def problem_response(scope: Scope, error: Exception) -> Response:
    """Turn ``error`` into the answer to the request of ``scope``, in the form of its route."""
    kind = problem_kind(error)
    if kind.is_internal:
        logger.error("%s", type(error).__name__, exc_info=error)
    form = exchange_of(scope).error_form or form_of_path(scope["path"])
    body = ERROR_BODIES[form]
    status = body.status_of(kind.status)
    content = orjson.dumps(body.write(_describe(scope, error, kind, status=status, form=form)))
    return Response(content, status, _headers(error, kind), media_type=body.media_type)


def form_of_path(path: str) -> ErrorForm:
    """Return the form for a path that no route has: below ``/v2`` that of tensors."""
    is_oip = path == "/v2" or path.startswith("/v2/")
    return ErrorForm.OIP if is_oip else ErrorForm.PROBLEM


def _describe(
    scope: Scope, error: Exception, kind: ProblemKind, *, status: int, form: ErrorForm
) -> Failure:
    detail = _INTERNAL if kind.is_internal else _detail(error)
    if (
        form is ErrorForm.OIP
        and isinstance(error, HTTPException)
        and status == HTTPStatus.NOT_FOUND
    ):
        detail = _OIP_NOT_FOUND
    listed = _listed_errors(error)
    return Failure(
        status=status,
        type=kind.type,
        title=kind.title,
        detail=detail,
        instance=quote(scope["path"], safe="/:@!$&'()*+,;=~")[:_MAX_INSTANCE_LENGTH],
        request_id=REQUEST_ID.get(),
        places=[(one["pointer"], one["detail"]) for one in listed if "pointer" in one],
        listed=listed,
    )


def series_error(error: InvalidInputError) -> dict[str, Any]:
    """Describe why one series of a request was refused."""
    kind = problem_kind(error)
    return {
        "type": kind.type,
        "title": kind.title,
        "status": kind.status,
        "detail": str(error),
        "pointer": error.pointer,
    }


def _detail(error: Exception) -> str:
    if isinstance(error, HTTPException):
        return _HTTP_DETAILS.get(error.status_code, _phrase(error.status_code))
    if isinstance(error, RequestValidationError):
        return "; ".join(f"{e['parameter']}: {e['detail']}" for e in _parameter_errors(error))
    return str(error)


def _listed_errors(error: Exception) -> list[dict[str, str]]:
    if isinstance(error, RequestValidationError):
        return _parameter_errors(error)
    if isinstance(error, InvalidSeriesError):
        return _pointed(error.refusals[:MAX_LISTED_ERRORS])
    return _pointed([error]) if isinstance(error, InvalidInputError) else []


def _pointed(refusals: Iterable[InvalidInputError]) -> list[dict[str, str]]:
    return [{"pointer": refusal.pointer, "detail": str(refusal)} for refusal in refusals]


def _parameter_errors(error: RequestValidationError) -> list[dict[str, str]]:
    return [{"parameter": str(e["loc"][-1]), "detail": str(e["msg"])} for e in error.errors()]


def _headers(error: Exception, kind: ProblemKind) -> dict[str, str]:
    headers: dict[str, str] = {}
    if isinstance(error, HTTPException):
        headers |= error.headers or {}
    if isinstance(error, RetryableError):
        headers["Retry-After"] = str(error.retry_after_s)
    if kind.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="gatecast"'
    if kind is _BUG or kind.status == HTTPStatus.REQUEST_TIMEOUT:
        headers["Connection"] = "close"
    return headers


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
