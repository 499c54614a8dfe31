"""What a job is: the file it forecasts, how, and how far it has come."""

from dataclasses import dataclass
from typing import Literal

import msgspec

from app.files.columns import ColumnRoles
from app.files.raw import FileFormat
from app.files.writing import AnswerFormat

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
WebhookState = Literal["", "pending", "delivered", "failed"]


class JobOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to forecast, with what, and how to write it; all of it is settled when a job is made.

    Attributes:
        model_digest: SHA-256 of the model's file: no other model goes on with the job.
        quantile_levels: The model's if None, like the horizon.
        output_format: Of the result.
    """

    model_name: str
    model_version: int
    model_digest: str
    file_format: FileFormat
    output_format: AnswerFormat
    horizon: int | None = None
    quantile_levels: tuple[float, ...] | None = None
    freq: str | None = None
    item_id: str | None = None
    timestamp: str | None = None
    target: str | None = None

    @property
    def roles(self) -> ColumnRoles:
        """The columns that were named."""
        return ColumnRoles(item_id=self.item_id, timestamp=self.timestamp, target=self.target)


@dataclass(frozen=True, slots=True)
class Progress:
    """How many series have an answer, how many of these no forecast, and how many there are.

    ``num_series`` is None until the file has been read.
    """

    num_done: int = 0
    num_refused: int = 0
    num_series: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class NewJob:
    """A job that is to be queued.

    Attributes:
        owner: Id of the API key that makes it; empty where there are no keys.
        fingerprint: Digest of file and options: what a repeated request must agree in.
        idempotency_key: What repeated requests name alike; None where they are all jobs of their
            own.
    """

    job_id: str
    owner: str
    options: JobOptions
    fingerprint: str
    idempotency_key: str | None = None
    webhook_url: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One job as the journal has it; times are seconds since 1970.

    Attributes:
        error: Why it failed; empty where it did not.
        webhook_state: Empty where no webhook was asked for.
        webhook_attempts: How often its end was told, or tried to be told.
    """

    job_id: str
    owner: str
    state: JobState
    options: JobOptions
    progress: Progress
    created_at: float
    started_at: float | None
    finished_at: float | None
    error: str
    webhook_url: str | None
    webhook_state: WebhookState
    webhook_attempts: int
