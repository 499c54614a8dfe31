"""``/v1/jobs``: files are taken in and journalled here; a process of its own forecasts them."""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import Annotated

from fastapi import Header, Query, Request, Response
from fastapi import Path as PathParameter
from pydantic import BaseModel
from starlette.responses import FileResponse

from app.errors import InvalidInputError, JobConflictError, JobsOffError, ShuttingDownError
from app.files.writing import AnswerFormat
from app.gateway.body import read_json_body, save_body
from app.gateway.catalog import Catalog
from app.gateway.drain import Drain
from app.gateway.exchange import exchange_of
from app.gateway.file_forecast import ANSWER_TYPES
from app.gateway.file_types import MEDIA_TYPES, is_file
from app.gateway.job_options import AskedJob, JobParameters, JobQuery
from app.jobs.desk import JobDesk
from app.jobs.destinations import DestinationRules
from app.jobs.documents import JobDocument
from app.jobs.files import IncomingFile, copy_allowed
from app.jobs.job import Job, JobOptions, NewJob
from app.settings import Settings

RESULT_TYPES: dict[AnswerFormat, str] = {
    answer_format: media_type for media_type, answer_format in reversed(ANSWER_TYPES.items())
}
ERRORS_TYPE = "application/jsonl"

_MAX_LISTED = 1000

JobId = Annotated[str, PathParameter(max_length=64, description="As `POST /v1/jobs` gave it.")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=256,
        description="Repeating a request with the same key gives the same job.",
    ),
]
Limit = Annotated[int, Query(ge=1, le=_MAX_LISTED, description="Most jobs in the answer.")]
Before = Annotated[
    str | None, Query(max_length=64, description="A `job_id`: only older jobs are listed.")
]


class JobList(BaseModel):
    """Jobs of one API key, newest first."""

    jobs: list[JobDocument]


class JobEndpoints:
    """Takes jobs in, and tells what became of them."""

    def __init__(
        self, desk: JobDesk | None, catalog: Catalog, drain: Drain, settings: Settings
    ) -> None:
        self._open_desk = desk
        self._catalog = catalog
        self._drain = drain
        self._settings = settings
        self._rules = DestinationRules(settings.trusted_webhook_hosts)

    async def create_job(
        self,
        request: Request,
        response: Response,
        parameters: JobParameters,
        idempotency_key: IdempotencyKey = None,
    ) -> JobDocument:
        """Queue a job: the series of a file, or of a file in the folder of allowed input."""
        desk, owner = self._desk, _owner_of(request)
        if self._drain.is_draining:
            raise ShuttingDownError("the service is shutting down and takes no new jobs")
        await asyncio.to_thread(desk.store.check_room, owner, idempotency_key)
        asked = await self._read(request, parameters)
        self._check_webhook(asked.request.webhook_url)
        model = self._catalog.find_able("forecast", asked.request.model_name, asked.model_version)
        exchange_of(request.scope).model_name = model.model_name
        options = asked.options_for(model)
        job_id = secrets.token_hex(16)
        async with _receiving(desk, job_id, options) as incoming:
            digest = await self._fill(incoming, request, asked)
            new = NewJob(
                job_id=job_id,
                owner=owner,
                options=options,
                fingerprint=asked.fingerprint(digest),
                idempotency_key=idempotency_key,
                webhook_url=asked.request.webhook_url,
            )
            job = await asyncio.to_thread(desk.store.add, new)
        if job.job_id != job_id:
            await asyncio.to_thread(desk.files.remove, job_id)
        response.headers["Location"] = f"/v1/jobs/{job.job_id}"
        return JobDocument.from_job(job)

    async def list_jobs(
        self, request: Request, limit: Limit = 100, before: Before = None
    ) -> JobList:
        """List the jobs of the API key, newest first."""
        find_all = partial(self._desk.store.find_all, limit=limit, before=before)
        jobs = await asyncio.to_thread(find_all, _owner_of(request))
        return JobList(jobs=[JobDocument.from_job(job) for job in jobs])

    async def describe_job(self, request: Request, job_id: JobId) -> JobDocument:
        """Describe one job, and how far it has come."""
        return JobDocument.from_job(await self._find(request, job_id))

    async def cancel_job(self, request: Request, job_id: JobId) -> JobDocument:
        """End a job; one that is finished stays as it is."""
        cancel = self._desk.store.cancel
        return JobDocument.from_job(await asyncio.to_thread(cancel, job_id, _owner_of(request)))

    async def delete_job(self, request: Request, job_id: JobId) -> Response:
        """End a job if it is not finished, and remove it with its files."""
        await asyncio.to_thread(self._desk.store.delete, job_id, _owner_of(request))
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def read_result(self, request: Request, job_id: JobId) -> Response:
        """Return the forecasts of a job that has succeeded."""
        job = await self._find(request, job_id)
        _check_succeeded(job)
        path = self._desk.files.result_of(job)
        media_type = RESULT_TYPES[job.options.output_format]
        return FileResponse(path, media_type=media_type, filename=f"{job_id}{path.suffix}")

    async def read_errors(self, request: Request, job_id: JobId) -> Response:
        """Return the series of a job that can not be forecast, one a line, each with its reason."""
        job = await self._find(request, job_id)
        _check_has_errors(job)
        path = self._desk.files.errors_of(job)
        if not path.exists():
            return Response(media_type=ERRORS_TYPE)
        return FileResponse(path, media_type=ERRORS_TYPE)

    @property
    def _desk(self) -> JobDesk:
        if self._open_desk is None:
            raise JobsOffError("bulk jobs are off: the operator must set GATECAST_JOBS_DIRECTORY")
        return self._open_desk

    async def _find(self, request: Request, job_id: str) -> Job:
        return await asyncio.to_thread(self._desk.store.find, job_id, _owner_of(request))

    async def _read(self, request: Request, parameters: JobQuery) -> AskedJob:
        content_type = request.headers.get("content-type", "")
        if is_file(content_type):
            return AskedJob.from_query(parameters, content_type)
        body = await read_json_body(
            request.scope,
            request.receive,
            max_bytes=self._settings.max_body_bytes,
            timeout_s=self._settings.body_timeout_s,
            media_types=("application/json", *MEDIA_TYPES),
        )
        return AskedJob.from_json(body)

    def _check_webhook(self, url: str | None) -> None:
        if url is None:
            return
        if not self._settings.webhook_secret:
            raise InvalidInputError(
                "webhook_url: this service sends none, as GATECAST_WEBHOOK_SECRET is not set",
                "/webhook_url",
            )
        self._rules.parse(url)

    async def _fill(self, incoming: IncomingFile, request: Request, asked: AskedJob) -> str:
        """Write the input of a job, and return what tells it from others."""
        max_bytes = self._settings.max_job_file_bytes
        if path := asked.request.path:
            folder = self._settings.jobs_input
            if folder is None:
                raise InvalidInputError(
                    "path: this service reads no files of its own, as GATECAST_JOBS_INPUT is not"
                    " set",
                    "/path",
                )
            copy = partial(copy_allowed, folder, path, incoming, max_bytes=max_bytes)
            await asyncio.to_thread(copy)
            await asyncio.to_thread(incoming.close)
            return ""
        await save_body(
            request.scope,
            request.receive,
            incoming.write,
            encodings=("gzip", "x-gzip"),
            max_bytes=max_bytes,
            pause_s=self._settings.body_timeout_s,
        )
        return await asyncio.to_thread(incoming.close)


@asynccontextmanager
async def _receiving(
    desk: JobDesk, job_id: str, options: JobOptions
) -> AsyncGenerator[IncomingFile]:
    """Open the input of a job; nothing of it stays where the block fails."""
    incoming = await asyncio.to_thread(desk.files.receive, job_id, options)
    try:
        yield incoming
    except BaseException:
        incoming.abort()
        desk.files.remove(job_id)
        raise


def _owner_of(request: Request) -> str:
    return exchange_of(request.scope).key_id


def _check_succeeded(job: Job) -> None:
    if job.state == "failed":
        raise JobConflictError(f"the job has failed: {job.error}")
    if job.state != "succeeded":
        raise JobConflictError(f"the job is {job.state}; its result is there once it has succeeded")


def _check_has_errors(job: Job) -> None:
    if job.state not in {"succeeded", "failed"}:
        raise JobConflictError(
            f"the job is {job.state}; its errors are there once it has succeeded or failed; a"
            " cancelled job has none"
        )
