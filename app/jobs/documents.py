"""What callers are told of a job: in answers, and in webhooks."""

from datetime import UTC, datetime
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from app.files.writing import AnswerFormat
from app.jobs.job import Job, JobState, WebhookState


class JobDocument(BaseModel):
    """One job. Times are UTC."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    job_id: str
    state: JobState
    model_name: str
    model_version: int
    output_format: AnswerFormat
    num_series: int | None = Field(description="Null until the file has been read.")
    num_done: int = Field(description="Series that have an answer, the refused ones too.")
    num_refused: int = Field(description="Series that can not be forecast; see `errors` below it.")
    error: str = Field(description="Why it failed; empty where it did not.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    webhook_url: str | None
    webhook_state: WebhookState = Field(description="Empty where no webhook was asked for.")
    webhook_attempts: int

    @classmethod
    def from_job(cls, job: Job) -> Self:
        """Describe ``job``."""
        return cls(
            job_id=job.job_id,
            state=job.state,
            model_name=job.options.model_name,
            model_version=job.options.model_version,
            output_format=job.options.output_format,
            num_series=job.progress.num_series,
            num_done=job.progress.num_done,
            num_refused=job.progress.num_refused,
            error=job.error,
            created_at=_to_datetime(job.created_at),
            started_at=None if job.started_at is None else _to_datetime(job.started_at),
            finished_at=None if job.finished_at is None else _to_datetime(job.finished_at),
            webhook_url=job.webhook_url,
            webhook_state=job.webhook_state,
            webhook_attempts=job.webhook_attempts,
        )


def _to_datetime(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
