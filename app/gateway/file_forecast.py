"""Forecasts of whole files: series in long format in, forecasts out in the format asked for.

Every cell is checked before the first byte is answered; then some series at a time are read again,
forecast and sent, so that neither the file nor the answer ever lies in memory as a whole.
"""

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
from fastapi import Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from app.errors import InvalidInputError, InvalidSeriesError
from app.files.columns import ColumnRoles, Covariates
from app.files.series import FileSeries, Values
from app.files.streaming import SeriesOptions, SeriesStream
from app.files.writing import AnswerFormat, ForecastWriter, WrittenSeries, make_writer
from app.gateway.catalog import Forecaster
from app.gateway.exchange import owner_of
from app.gateway.file_reader import FileReader, OpenFile
from app.gateway.file_types import format_stamps_of
from app.gateway.forecast_schemas import ForecastRequest, Series
from app.gateway.service import Forecast, ForecastService
from app.settings import Settings

_SERIES_AT_A_TIME = 256
ANSWER_TYPES: dict[str, AnswerFormat] = {
    "text/csv": "csv",
    "application/jsonl": "jsonl",
    "application/x-ndjson": "jsonl",
    "application/vnd.apache.parquet": "parquet",
    "application/vnd.apache.arrow.stream": "arrow",
}


class FileOptions(BaseModel):
    """What a JSON body would say; for files only."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    horizon: int | None = Field(None, ge=1, description="Steps ahead, for a file.")
    quantile_levels: str | None = Field(
        None, max_length=1000, description="Levels for a file, such as 0.1,0.5,0.9."
    )
    freq: str | None = Field(None, max_length=16, description="Spacing of the stamps of a file.")
    item_id: str | None = Field(None, max_length=256, description="Column of a file.")
    timestamp: str | None = Field(None, max_length=256, description="Column of a file.")
    target: str | None = Field(None, max_length=256, description="Column of a file.")

    @property
    def roles(self) -> ColumnRoles:
        """The columns that were named."""
        return ColumnRoles(item_id=self.item_id, timestamp=self.timestamp, target=self.target)

    def levels(self) -> list[float] | None:
        """Return the quantile levels.

        Raises:
            InvalidInputError: One of them is no number.
        """
        if self.quantile_levels is None:
            return None
        try:
            return [float(level) for level in self.quantile_levels.split(",")]
        except ValueError as error:
            raise InvalidInputError("quantile_levels must be numbers between commas") from error


FileQuery = Annotated[FileOptions, Query()]


class FileForecasts:
    """Answers forecast requests whose body is a file."""

    def __init__(self, service: ForecastService, reader: FileReader, settings: Settings) -> None:
        self._service = service
        self._reader = reader
        self._settings = settings

    async def answer(self, request: Request, model: Forecaster, options: FileOptions) -> Response:
        """Forecast every series of the body."""
        asked = _Asked(options, model, owner_of(request.scope))
        file = await self._reader.open(request, asked.series_options())
        try:
            await file.work(_check_all)
            begun = await self._begin(file, asked)  # what is wrong here is a problem, not a cut
        except BaseException:
            await file.aclose()
            raise
        answer_format, media_type = _answer_format(Headers(scope=request.scope))
        has_stamps = file.stream.freq is not None
        writer = make_writer(answer_format, begun.quantile_levels, has_stamps=has_stamps)
        parts = self._write_parts(begun, file, asked)
        return _FileResponse(file, _write(writer, parts), media_type)

    async def _begin(self, file: OpenFile, asked: "_Asked") -> "_Begun":
        """Go on to the first part of the file with a forecast in it.

        Raises:
            InvalidInputError: The request, or every series of the file, is wrong.
        """
        refused: list[list[WrittenSeries]] = []
        listed: Sequence[InvalidInputError] = ()
        while part := await _take(file):
            try:
                forecast = await self._forecast(part, file, asked)
                return _Begun(forecast.quantile_levels, [*refused, _to_written(forecast)])
            except InvalidInputError as error:
                if not (refused or isinstance(error, InvalidSeriesError)):
                    raise
                listed = listed or _reasons(error, len(part))
                refused.append(_refuse_all(part, error))
        num_series = sum(map(len, refused))
        raise InvalidSeriesError(f"none of the {num_series} series is valid", listed)

    async def _write_parts(
        self, begun: "_Begun", file: OpenFile, asked: "_Asked"
    ) -> AsyncGenerator[Sequence[WrittenSeries]]:
        for written in begun.parts:
            yield written
        while part := await _take(file):
            try:
                yield _to_written(await self._forecast(part, file, asked))
            except InvalidInputError as error:
                yield _refuse_all(part, error)

    async def _forecast(
        self, part: Sequence[FileSeries], file: OpenFile, asked: "_Asked"
    ) -> Forecast:
        request = asked.request(part, file.stream.freq)
        prepared = await asyncio.to_thread(self._service.prepare, request, asked.model)
        deadline = time.monotonic() + self._settings.request_timeout_s
        return await self._service.forecast(
            prepared, asked.model, deadline=deadline, owner=asked.owner
        )


async def _take(file: OpenFile) -> list[FileSeries]:
    part = await file.take(_SERIES_AT_A_TIME)
    return [one for one in part if isinstance(one, FileSeries)]


def _check_all(stream: SeriesStream) -> None:
    """Go through all series once: the first one that is wrong is raised."""
    for _ in stream:
        pass


class _FileResponse(StreamingResponse):
    """Closes the file whether or not the caller stays to the end, or even to the beginning."""

    def __init__(self, file: OpenFile, content: AsyncGenerator[bytes], media_type: str) -> None:
        super().__init__(content, media_type=media_type)
        self._file = file
        self._content = content

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._content.aclose()
            await self._file.aclose()


@dataclass(frozen=True, slots=True)
class _Begun:
    """What is to be answered first: series without a forecast, and the first part that has one."""

    quantile_levels: Sequence[float]
    parts: Sequence[Sequence[WrittenSeries]]


class _Asked:
    """What a request asks of a model, beside its file."""

    def __init__(self, options: FileOptions, model: Forecaster, owner: str | None) -> None:
        self.owner = owner
        self.model = model
        self._options = options
        self._levels = options.levels()
        self._horizon = min(options.horizon or model.card.horizon, model.card.horizon)

    def series_options(self) -> SeriesOptions:
        """How the file is to be read; the covariates are those of the model."""
        return SeriesOptions(
            roles=self._options.roles, freq=self._options.freq, covariates=self._covariates
        )

    @cached_property
    def _covariates(self) -> Covariates:
        card = self.model.card
        return Covariates(
            past=card.past_covariates,
            future=card.future_covariates,
            static=card.static_covariates,
            categories=card.static_categories,
            num_ahead=self._horizon,
        )

    def request(self, part: Sequence[FileSeries], freq: str | None) -> ForecastRequest:
        """Return the request for some of the series."""
        return ForecastRequest(
            series=[self._to_series(series) for series in part],
            freq=freq,
            horizon=self._options.horizon,
            quantile_levels=self._levels,
        )

    def _to_series(self, series: FileSeries) -> Series:
        length = len(series.target)
        first = series.anchor_before(max(0, length - self.model.card.context_length))
        stamp = series.stamp_at(first) if length else None
        future = slice(first, length + self._horizon)
        return Series(
            item_id=series.item_id,
            start=None if stamp is None else format_stamps_of(np.array([stamp]))[0],
            target=series.target[first:].tolist(),
            past_covariates=_cut(series.past_covariates, slice(first, None)),
            future_covariates=_cut(series.future_covariates, future),
            static_covariates={
                name: self._covariates.value_of(name, number)
                for name, number in series.static_covariates.items()
            },
        )


def _cut(covariates: Values, kept: slice) -> dict[str, list[float | None]]:
    return {name: values[kept].tolist() for name, values in covariates.items()}


def _refuse_all(part: Sequence[FileSeries], error: InvalidInputError) -> list[WrittenSeries]:
    """Return why each series has no forecast; of a large file, all of these may have to be kept."""
    reasons = [sys.intern(str(reason)) for reason in _reasons(error, len(part))]
    return [
        WrittenSeries(series.item_id, None, None, reason)
        for series, reason in zip(part, reasons, strict=True)
    ]


def _reasons(error: InvalidInputError, num_series: int) -> Sequence[InvalidInputError]:
    return error.refusals if isinstance(error, InvalidSeriesError) else [error] * num_series


def _answer_format(headers: Headers) -> tuple[AnswerFormat, str]:
    """Return the first format of ``Accept`` that is known, else that of the body."""
    named = [
        part.partition(";")[0].strip().lower() for part in headers.get("accept", "").split(",")
    ]
    body = headers.get("content-type", "").partition(";")[0].strip().lower()
    media_type = next((name for name in [*named, body] if name in ANSWER_TYPES), "text/csv")
    return ANSWER_TYPES[media_type], media_type


async def _write(
    writer: ForecastWriter, parts: AsyncGenerator[Sequence[WrittenSeries]]
) -> AsyncGenerator[bytes]:
    async for part in parts:
        yield await asyncio.to_thread(writer.write, part)
    yield writer.finish()


def _to_written(forecast: Forecast) -> list[WrittenSeries]:
    written: list[WrittenSeries] = []
    for position, item_id in enumerate(forecast.item_ids):
        if refusal := forecast.refusals.get(position):
            written.append(WrittenSeries(item_id, None, None, str(refusal)))
        else:
            one = forecast.series[position]
            written.append(WrittenSeries(item_id, one.timestamps, one.quantiles, notes=one.notes))
    return written
