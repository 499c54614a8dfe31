"""``POST /v1/series``: a file in, its series out, with what was understood of it."""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import orjson
from fastapi import Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from app.errors import PayloadTooLargeError
from app.files.columns import ColumnRoles, Covariates
from app.files.raw import MAX_COLUMNS
from app.files.series import FileSeries, FloatArray, RefusedSeries, Values
from app.files.streaming import SeriesOptions, SeriesStream
from app.gateway.file_reader import FileReader
from app.gateway.file_types import BYTES_CONTENT, MEDIA_TYPES, format_stamps_of
from app.settings import Settings

_ROLE = "Name of the column; empty: there is none. Default: a guess."
_COVARIATE = "Column that is such a covariate; once for each."


class SeriesQuery(BaseModel):
    """What a caller knows of a file."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    item_id: str | None = Field(None, max_length=256, description=_ROLE)
    timestamp: str | None = Field(None, max_length=256, description=_ROLE)
    target: str | None = Field(None, max_length=256, description=_ROLE)
    freq: str | None = Field(
        None, max_length=16, description="Spacing of the stamps. Default: inferred."
    )
    past_covariates: list[str] = Field([], max_length=MAX_COLUMNS, description=_COVARIATE)
    future_covariates: list[str] = Field([], max_length=MAX_COLUMNS, description=_COVARIATE)
    static_covariates: list[str] = Field([], max_length=MAX_COLUMNS, description=_COVARIATE)

    def series_options(self) -> SeriesOptions:
        """How the file is to be read."""
        return SeriesOptions(
            roles=ColumnRoles(item_id=self.item_id, timestamp=self.timestamp, target=self.target),
            covariates=Covariates(
                past=tuple(self.past_covariates),
                future=tuple(self.future_covariates),
                static=tuple(self.static_covariates),
            ),
            freq=self.freq or None,
        )


class FoundSeries(BaseModel):
    """One series of a file.

    A forecast request takes its fields but for `timestamps`, `num_gaps` and `num_missing`.
    """

    item_id: str | None
    start: str | None
    timestamps: list[str] | None = Field(description="One per value; null for plain steps.")
    target: list[float | None]
    num_gaps: int = Field(description="Values that are missing because the file lacks their row.")
    num_missing: int = Field(description="Values that are missing, gaps among them.")
    past_covariates: dict[str, list[float | None]] = Field(description="By name, where asked for.")
    future_covariates: dict[str, list[float | None]] = Field(
        description="By name, as far ahead as the file has rows without a target."
    )
    static_covariates: dict[str, float | None]


class FoundRoles(BaseModel):
    """Which column is which; null where there is none."""

    item_id: str | None
    timestamp: str | None
    target: str


class FoundFile(BaseModel):
    """What was understood of a file."""

    columns: FoundRoles
    all_columns: list[str]
    separator: str | None
    freq: str | None = Field(description="Spacing of the stamps; null for plain steps.")
    num_rows: int
    num_repeated: int = Field(description="Rows that repeat another one and count once.")
    without_values: list[str] = Field(description="Items left out, as no row has a number.")
    series: list[FoundSeries]


class FileEndpoints:
    """Reads files for callers that want to see what is in them."""

    def __init__(self, reader: FileReader, settings: Settings) -> None:
        self._reader = reader
        self._settings = settings

    async def read_series(
        self, request: Request, query: Annotated[SeriesQuery, Query()]
    ) -> Response:
        """Read the series of a CSV, JSON Lines, Parquet or Arrow file in long format."""
        options = query.series_options()
        num_columns = 1 + len(options.covariates.names)

        def encode(stream: SeriesStream) -> bytes:
            self._check_size(stream.num_rows * num_columns)
            return encode_content(stream, self._gather(stream))

        answer = await self._reader.read(request, options, encode)
        return Response(answer, media_type="application/json")

    def _check_size(self, num_values: int) -> None:
        """Refuse before all values are put together what no answer can hold."""
        if num_values > self._settings.max_steps:
            raise PayloadTooLargeError(
                f"the file may have at most {self._settings.max_steps} values, those of covariates "
                "among them"
            )

    def _gather(self, stream: SeriesStream) -> list[FileSeries]:
        """Return all series, as long as an answer can hold them."""
        gathered: list[FileSeries] = []
        num_values = num_series = 0
        for series in stream:
            if isinstance(series, RefusedSeries):
                raise series.error
            num_values += _count_values(series)
            num_series += bool(len(series.target))
            if num_series > self._settings.max_series:
                raise PayloadTooLargeError(
                    f"the file may hold at most {self._settings.max_series} series"
                )
            if num_values > self._settings.max_steps:
                raise PayloadTooLargeError(
                    f"with gaps filled there are more than {self._settings.max_steps} values, "
                    "those of covariates among them"
                )
            gathered.append(series)
        return gathered


def _count_values(series: FileSeries) -> int:
    covariates = (*series.past_covariates.values(), *series.future_covariates.values())
    return sum(map(len, (series.target, series.static_covariates, *covariates)))


def series_request_body() -> dict[str, Any]:
    """Declare the body of the route."""
    content = dict.fromkeys(MEDIA_TYPES, BYTES_CONTENT)
    content["text/csv"]["example"] = "item_id,timestamp,target\nA,2024-01-01,3\nA,2024-02-01,5\n"
    return {"requestBody": {"required": True, "content": content}}


def encode_content(stream: SeriesStream, gathered: Sequence[FileSeries]) -> bytes:
    """Write a ``FoundFile``."""
    columns = stream.columns
    answer = {
        "columns": {
            "item_id": columns.item_id,
            "timestamp": columns.timestamp,
            "target": columns.target,
        },
        "all_columns": stream.column_names,
        "separator": stream.separator,
        "freq": stream.freq,
        "num_rows": stream.num_rows,
        "num_repeated": sum(series.num_repeated for series in gathered),
        "without_values": [str(one.item_id) for one in gathered if not len(one.target)],
        "series": [_encode_series(series) for series in gathered if len(series.target)],
    }
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def _encode_series(series: FileSeries) -> dict[str, Any]:
    stamps = series.stamps
    timestamps = None if stamps is None else format_stamps_of(stamps)
    return {
        "item_id": series.item_id,
        "start": timestamps[0] if timestamps else None,
        "timestamps": timestamps,
        "target": series.target,
        "num_gaps": series.num_gaps,
        "num_missing": int(np.isnan(series.target).sum()),
        "past_covariates": _contiguous(series.past_covariates),
        "future_covariates": _contiguous(series.future_covariates),
        "static_covariates": series.static_covariates,
    }


def _contiguous(covariates: Values) -> dict[str, FloatArray]:
    return {name: np.ascontiguousarray(values) for name, values in covariates.items()}
