"""The routes of bulk jobs, and what the API's description says of them."""

import functools
from typing import Any

from fastapi import FastAPI
from starlette.responses import Response

from app.gateway.file_forecast import ANSWER_TYPES
from app.gateway.file_types import BYTES_CONTENT, MEDIA_TYPES
from app.gateway.job_options import JobRequest
from app.gateway.jobs import ERRORS_TYPE, JobEndpoints, JobList
from app.gateway.openapi import problem_responses
from app.jobs.documents import JobDocument

JOBS_TAG = {
    "name": "jobs",
    "description": "Whole files, forecast in the background; off unless the operator gives them a"
    " folder.",
}
JOB_SCHEMAS = (JobRequest,)

_DESCRIPTIONS = {
    404: "There is no such job or model, or bulk jobs are switched off.",
    409: "The job's state does not allow it, or the model makes no forecasts.",
    422: "A field is wrong, or the Idempotency-Key was used for something else.",
    429: "The API key has as many unfinished jobs as it may have; see `Retry-After`.",
}
_FOUND_STATUSES = (401, 404, 422, 500, 503)
_CREATE_STATUSES = (400, 401, 404, 408, 409, 413, 415, 422, 429, 500, 503)
_RESULT_STATUSES = (401, 404, 409, 422, 500, 503)


def add_job_routes(app: FastAPI, endpoints: JobEndpoints) -> None:
    """Add all routes below ``/v1/jobs``."""
    _add_creation(app, endpoints)
    add_route = functools.partial(
        app.add_api_route, tags=["jobs"], responses=_problems(_FOUND_STATUSES)
    )
    one = "/v1/jobs/{job_id}"
    add_route(
        "/v1/jobs",
        endpoints.list_jobs,
        methods=["GET"],
        operation_id="list_jobs",
        response_model=JobList,
    )
    add_route(
        one,
        endpoints.describe_job,
        methods=["GET"],
        operation_id="describe_job",
        response_model=JobDocument,
    )
    add_route(
        f"{one}/cancel",
        endpoints.cancel_job,
        methods=["POST"],
        operation_id="cancel_job",
        response_model=JobDocument,
    )
    add_route(
        one,
        endpoints.delete_job,
        methods=["DELETE"],
        operation_id="delete_job",
        status_code=204,
        response_class=Response,
        response_model=None,
    )
    _add_files(app, endpoints)


def _add_creation(app: FastAPI, endpoints: JobEndpoints) -> None:
    content: dict[str, Any] = {
        "application/json": {"schema": {"$ref": f"#/components/schemas/{JobRequest.__name__}"}}
    }
    content |= dict.fromkeys(MEDIA_TYPES, BYTES_CONTENT)
    location = {"Location": {"description": "Path of the job.", "schema": {"type": "string"}}}
    accepted: dict[int | str, dict[str, Any]] = {
        202: {"description": "The job is queued, or was before.", "headers": location}
    }
    app.add_api_route(
        "/v1/jobs",
        endpoints.create_job,
        methods=["POST"],
        tags=["jobs"],
        operation_id="create_job",
        status_code=202,
        response_model=JobDocument,
        responses=accepted | _problems(_CREATE_STATUSES),
        openapi_extra={"requestBody": {"required": True, "content": content}},
    )


def _add_files(app: FastAPI, endpoints: JobEndpoints) -> None:
    add_route = functools.partial(
        app.add_api_route,
        methods=["GET"],
        tags=["jobs"],
        response_class=Response,
        response_model=None,
    )
    problems = _problems(_RESULT_STATUSES)
    content = dict.fromkeys(ANSWER_TYPES, BYTES_CONTENT)
    add_route(
        "/v1/jobs/{job_id}/result",
        endpoints.read_result,
        operation_id="read_job_result",
        responses=problems | {200: {"description": "The forecasts.", "content": content}},
    )
    errors: dict[int | str, dict[str, Any]] = {
        200: {"description": "One refused series a line.", "content": {ERRORS_TYPE: BYTES_CONTENT}}
    }
    add_route(
        "/v1/jobs/{job_id}/errors",
        endpoints.read_errors,
        operation_id="read_job_errors",
        responses=problems | errors,
    )


def _problems(statuses: tuple[int, ...]) -> dict[int | str, dict[str, Any]]:
    problems = problem_responses(statuses)
    for status in problems.keys() & _DESCRIPTIONS.keys():
        problems[status] |= {"description": _DESCRIPTIONS[int(status)]}
    return problems
