"""The forms that an error takes: a problem (RFC 9457), and those of the dialects.

The statuses are those of the one table in ``app.gateway.problems``; a form only changes one where
its provider documents another.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from app.gateway.dialect_table import ErrorForm

Json = dict[str, Any]

PROBLEM_MEDIA_TYPE = "application/problem+json"
JSON_MEDIA_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class Failure:
    """What there is to tell; ``places`` are JSON pointers, each with a sentence."""

    status: int
    type: str
    title: str
    detail: str
    instance: str
    request_id: str
    places: Sequence[tuple[str, str]]
    listed: Sequence[Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """Writes errors in one form; ``statuses`` are those that its provider documents otherwise."""

    write: Callable[[Failure], Json]
    media_type: str = JSON_MEDIA_TYPE
    statuses: Mapping[int, int] | None = None

    def status_of(self, status: int) -> int:
        """Return the status that the provider documents for what the table calls ``status``."""
        return (self.statuses or {}).get(status, status)


def _write_problem(failure: Failure) -> Json:
    content: Json = {
        "type": failure.type,
        "title": failure.title,
        "status": failure.status,
        "detail": failure.detail,
        "instance": failure.instance,
        "request_id": failure.request_id,
    }
    return content | ({"errors": failure.listed} if failure.listed else {})


def _write_oip(failure: Failure) -> Json:
    return {"error": failure.detail}


def _write_timegpt(failure: Failure) -> Json:
    detail: Any = failure.detail
    if failure.status == HTTPStatus.UNPROCESSABLE_ENTITY:
        places = failure.places or [("", failure.detail)]
        detail = [
            {"type": "value_error", "loc": ["body", *_steps(pointer)], "msg": message}
            for pointer, message in places
        ]
    return {
        "data": None,
        "message": failure.detail,
        "details": failure.title,
        "detail": detail,
        "code": failure.type,
        "requestID": failure.request_id,
        "support": "the operator of this service",
    }


def _steps(pointer: str) -> list[str | int]:
    return [int(step) if step.isdecimal() else step for step in pointer.split("/")[1:]]


def _write_sagemaker(failure: Failure) -> Json:
    kind = "BadRequestException" if failure.status < _SERVER_ERRORS else "InternalServerException"
    return {"code": failure.status, "type": kind, "message": _with_place(failure)}


_SERVER_ERRORS = 500
_GOOGLE_STATUSES = {
    401: "UNAUTHENTICATED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def _write_vertex(failure: Failure) -> Json:
    name = _GOOGLE_STATUSES.get(failure.status, "INVALID_ARGUMENT")
    message = _with_place(failure)
    return {"error": {"code": failure.status, "message": message, "status": name}}


def _write_kserve(failure: Failure) -> Json:
    return {"error": _with_place(failure)}


def _write_kserve_timeseries(failure: Failure) -> Json:
    param = failure.places[0][0].strip("/").replace("/", ".") if failure.places else ""
    kind = "".join(part.title() for part in HTTPStatus(failure.status).phrase.split()) + "Error"
    return {
        "error": {
            "code": str(failure.status),
            "message": failure.detail,
            "param": param,
            "type": kind,
        }
    }


def _with_place(failure: Failure) -> str:
    if not failure.places or not failure.places[0][0]:
        return failure.detail
    return f"{failure.detail} (at {failure.places[0][0]})"


_BAD_REQUEST = {422: 400}
"""These providers document 400 for a value that is wrong."""

ERROR_BODIES: Mapping[ErrorForm, ErrorBody] = {
    ErrorForm.PROBLEM: ErrorBody(_write_problem, PROBLEM_MEDIA_TYPE),
    ErrorForm.OIP: ErrorBody(_write_oip, statuses=_BAD_REQUEST),
    # The SDK counts on 4xx for what an account may not do; 501 is none of its statuses.
    ErrorForm.TIMEGPT: ErrorBody(_write_timegpt, statuses={501: 404}),
    ErrorForm.SAGEMAKER: ErrorBody(_write_sagemaker, statuses=_BAD_REQUEST),
    ErrorForm.VERTEX: ErrorBody(_write_vertex, statuses=_BAD_REQUEST),
    ErrorForm.KSERVE: ErrorBody(_write_kserve, statuses=_BAD_REQUEST),
    ErrorForm.KSERVE_TIMESERIES: ErrorBody(_write_kserve_timeseries, statuses=_BAD_REQUEST),
}
