"""Forecasts of whole files: series in long format in, forecasts out in the format asked for.

Every cell is checked before the first byte is answered; then some series at a time are forecast and
sent, so that the answer never lies in memory as a whole.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Annotated

import numpy as np
from fastapi import Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse

from app.errors import InvalidInputError
from app.files.columns import ColumnRoles
from app.files.series import FileSeries, RefusedSeries
from app.files.streaming import SeriesOptions, SeriesStream
from app.files.writing import AnswerFormat, ForecastWriter, WrittenSeries, make_writer
from app.gateway.catalog import Forecaster
from app.gateway.exchange import owner_of
from app.gateway.file_reader import FileReader
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
        _check_covariates(model)
        content = await self._reader.read(
            request, SeriesOptions(roles=options.roles, freq=options.freq), _FileContent
        )
        asked = _Asked(content, options, model, owner_of(request.scope))
        parts = self._forecast_parts(asked)
        first = await anext(parts)  # so that what is wrong with the request is a problem, not a cut
        answer_format, media_type = _answer_format(Headers(scope=request.scope))
        levels = first.quantile_levels
        writer = make_writer(answer_format, levels, has_stamps=asked.sends_stamps)
        return StreamingResponse(_write(writer, first, parts), media_type=media_type)

    async def _forecast_parts(self, asked: "_Asked") -> AsyncGenerator[Forecast]:
        """Forecast some series at a time; what is wrong with the first ones is raised."""
        first: Forecast | None = None
        series = iter(asked.content.series)
        while part := list(islice(series, _SERIES_AT_A_TIME)):
            try:
                forecast = await self._forecast_part(asked, part)
            except InvalidInputError as error:
                if first is None:
                    raise
                forecast = _refuse_all(first, part, error)
            first = first or forecast
            yield forecast

    async def _forecast_part(self, asked: "_Asked", part: Sequence[FileSeries]) -> Forecast:
        prepared = await asyncio.to_thread(self._service.prepare, asked.request(part), asked.model)
        deadline = time.monotonic() + self._settings.request_timeout_s
        return await self._service.forecast(
            prepared, asked.model, deadline=deadline, owner=asked.owner
        )


class _FileContent:
    def __init__(self, stream: SeriesStream) -> None:
        self.freq = stream.freq
        self.series = [
            one for one in stream if not isinstance(one, RefusedSeries) and len(one.target)
        ]


class _Asked:
    """What a file and its options ask of a model."""

    def __init__(
        self, content: _FileContent, options: FileOptions, model: Forecaster, owner: str | None
    ) -> None:
        self.content = content
        self.owner = owner
        self.model = model
        self._options = options
        self._levels = options.levels()
        self.sends_stamps = content.freq is not None

    def request(self, part: Sequence[FileSeries]) -> ForecastRequest:
        """Return the request for some of the series."""
        return ForecastRequest(
            series=[self._to_series(series) for series in part],
            freq=self.content.freq,
            horizon=self._options.horizon,
            quantile_levels=self._levels,
        )

    def _to_series(self, series: FileSeries) -> Series:
        kept = series.target[-self.model.card.context_length :]
        start = None
        first = series.stamp_at(len(series.target) - len(kept))
        if first is not None:
            start = format_stamps_of(np.array([first]))[0]
        return Series(item_id=series.item_id, start=start, target=kept.tolist())


def _refuse_all(like: Forecast, part: Sequence[FileSeries], error: InvalidInputError) -> Forecast:
    item_ids = tuple(series.item_id for series in part)
    refusals = dict.fromkeys(range(len(part)), error)
    return replace(like, item_ids=item_ids, series={}, refusals=refusals)


def _check_covariates(model: Forecaster) -> None:
    card = model.card
    if names := (*card.past_covariates, *card.future_covariates, *card.static_covariates):
        raise InvalidInputError(
            f"this model needs {', '.join(names)}: a file brings no covariates, send JSON"
        )


def _answer_format(headers: Headers) -> tuple[AnswerFormat, str]:
    """Return the first format of ``Accept`` that is known, else that of the body."""
    named = [
        part.partition(";")[0].strip().lower() for part in headers.get("accept", "").split(",")
    ]
    body = headers.get("content-type", "").partition(";")[0].strip().lower()
    media_type = next((name for name in [*named, body] if name in ANSWER_TYPES), "text/csv")
    return ANSWER_TYPES[media_type], media_type


async def _write(
    writer: ForecastWriter, first: Forecast, others: AsyncGenerator[Forecast]
) -> AsyncGenerator[bytes]:
    yield await asyncio.to_thread(writer.write, _to_written(first))
    async for forecast in others:
        yield await asyncio.to_thread(writer.write, _to_written(forecast))
    yield writer.finish()


def _to_written(forecast: Forecast) -> list[WrittenSeries]:
    written: list[WrittenSeries] = []
    for position, item_id in enumerate(forecast.item_ids):
        if refusal := forecast.refusals.get(position):
            written.append(WrittenSeries(item_id, None, None, str(refusal)))
        else:
            one = forecast.series[position]
            written.append(WrittenSeries(item_id, one.timestamps, one.quantiles))
    return written
