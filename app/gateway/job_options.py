"""What a caller asks of a job: fields of JSON, or query parameters beside a file."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from fastapi import Query
from msgspec import Meta, Struct
from pydantic import Field

from app.bulk.options import Aim, BulkOptions
from app.bulk.source import format_of
from app.errors import InvalidInputError, UnsupportedMediaTypeError
from app.files.raw import FileFormat
from app.files.writing import AnswerFormat
from app.gateway.catalog import Forecaster
from app.gateway.decoding import decode_body
from app.gateway.file_forecast import FileOptions
from app.gateway.file_types import format_of as format_of_type
from app.gateway.forecast_schemas import QuantileLevel, WholeNumber
from app.jobs.destinations import MAX_URL_LENGTH
from app.jobs.job import JobOptions

_MAX_NAME_LENGTH = 256
_MAX_PATH_LENGTH = 4096
_UTF_8 = {"utf-8", "utf8"}


class JobQuery(FileOptions):
    """What a JSON body would say; for files only."""

    model_name: str | None = Field(
        None, max_length=_MAX_NAME_LENGTH, description="Model that forecasts the file; needed."
    )
    model_version: str | None = Field(
        None, max_length=_MAX_NAME_LENGTH, description="Number or label. Default: the model's own."
    )
    output_format: AnswerFormat | None = Field(
        None, description="Format of the result. Default: that of the file."
    )
    webhook_url: str | None = Field(
        None, max_length=MAX_URL_LENGTH, description="Where to post the job when it is finished."
    )


JobParameters = Annotated[JobQuery, Query()]

_Name = Annotated[str, Meta(max_length=_MAX_NAME_LENGTH)]


class JobRequest(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """A job over a file that is already where the service can read it."""

    model_name: _Name
    path: Annotated[
        str,
        Meta(
            max_length=_MAX_PATH_LENGTH,
            description="Of the file, from the folder of allowed input; its suffix says what it"
            " is: .csv, .jsonl, .parquet or .arrow.",
        ),
    ]
    model_version: Annotated[
        int | _Name | None, Meta(description="Number or label; the model's default if left out.")
    ] = None
    horizon: WholeNumber | None = None
    quantile_levels: list[QuantileLevel] | None = None
    freq: Annotated[str, Meta(max_length=16)] | None = None
    item_id: _Name | None = None
    timestamp: _Name | None = None
    target: _Name | None = None
    output_format: AnswerFormat | None = None
    webhook_url: Annotated[str, Meta(max_length=MAX_URL_LENGTH)] | None = None


_decoder = msgspec.json.Decoder(JobRequest)


@dataclass(frozen=True, slots=True)
class AskedJob:
    """A job as it was asked for; its request has no path where the file comes with it."""

    request: JobRequest
    file_format: FileFormat

    @classmethod
    def from_json(cls, body: bytes) -> "AskedJob":
        """Read a JSON body.

        Raises:
            GatecastError: As ``decode_body``; or the path has no suffix that is known.
        """
        request = decode_body(body, _decoder)
        return cls(request, format_of(Path(request.path)))

    @classmethod
    def from_query(cls, query: JobQuery, content_type: str) -> "AskedJob":
        """Read the parameters that come with a file.

        Raises:
            InvalidInputError: No model is named, or a quantile level is no number.
            UnsupportedMediaTypeError: The file is of a kind or an encoding that jobs do not read.
        """
        file_format, encoding = format_of_type(content_type)
        if encoding is not None and encoding.lower() not in _UTF_8:
            raise UnsupportedMediaTypeError(
                "the file of a job must be UTF-8, or begin with the byte order mark of UTF-16"
            )
        if query.model_name is None:
            raise InvalidInputError("the query parameter model_name must say which model forecasts")
        given = query.model_dump(exclude={"quantile_levels"})
        request = JobRequest(**given, quantile_levels=query.levels(), path="")
        return cls(request, file_format)

    @property
    def model_version(self) -> str | None:
        """Number or label of the version; None means the model's default."""
        version = self.request.model_version
        return None if version is None else str(version)

    def fingerprint(self, digest: str) -> str:
        """Return the digest of all that is asked for; ``digest`` is that of a file sent along."""
        asked = msgspec.json.encode([self.request, self.file_format, digest])
        return hashlib.sha256(asked).hexdigest()

    def options_for(self, model: Forecaster) -> JobOptions:
        """Settle the options, so that later versions of the model change nothing.

        Raises:
            InvalidInputError: The model can not do what is asked.
        """
        request = self.request
        horizon = None if request.horizon is None else int(request.horizon)
        levels = None if request.quantile_levels is None else tuple(request.quantile_levels)
        _check_fit(model, horizon, levels, request.freq)
        return JobOptions(
            model_name=model.model_name,
            model_version=model.model_version,
            model_digest=model.digest,
            file_format=self.file_format,
            output_format=request.output_format or self.file_format,
            horizon=horizon,
            quantile_levels=levels,
            freq=request.freq,
            item_id=request.item_id,
            timestamp=request.timestamp,
            target=request.target,
        )


def _check_fit(
    model: Forecaster, horizon: int | None, levels: tuple[float, ...] | None, freq: str | None
) -> None:
    nowhere = Path()
    options = BulkOptions(
        output=nowhere, errors=nowhere, freq=freq, horizon=horizon, quantile_levels=levels
    )
    Aim.of(options, model.card).check_frequency(freq)
