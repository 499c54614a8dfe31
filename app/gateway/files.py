"""``POST /v1/series``: a file in, its series out, in the form that a forecast request takes."""

from typing import Annotated, Any

import numpy as np
import orjson
from fastapi import Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from app.errors import PayloadTooLargeError
from app.files.columns import ColumnRoles
from app.files.reading import RawTable
from app.files.series import FileContent, FileSeries
from app.gateway.file_reader import FileReader
from app.gateway.file_types import BYTES_CONTENT, MEDIA_TYPES, format_stamps_of
from app.settings import Settings

ColumnName = Annotated[
    str | None,
    Query(max_length=256, description="Name of the column; empty: there is none. Default: a guess"),
]
FreqAlias = Annotated[
    str | None, Query(max_length=16, description="Spacing of the stamps. Default: inferred.")
]


class FoundSeries(BaseModel):
    """One series of a file, as a forecast request takes it."""

    item_id: str | None
    start: str | None
    timestamps: list[str] | None = Field(description="One per value; null for plain steps.")
    target: list[float | None]
    num_gaps: int = Field(description="Values that are missing because the file lacks their row.")
    num_missing: int = Field(description="Values that are missing, gaps among them.")


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
        self,
        request: Request,
        item_id: ColumnName = None,
        timestamp: ColumnName = None,
        target: ColumnName = None,
        freq: FreqAlias = None,
    ) -> Response:
        """Read the series of a CSV, JSON Lines or Parquet file in long format."""
        roles = ColumnRoles(item_id=item_id, timestamp=timestamp, target=target)
        answer = await self._reader.read(request, roles, freq or None, self._encode)
        return Response(answer, media_type="application/json")

    def _encode(self, raw: RawTable, content: FileContent) -> bytes:
        self._check_size(content)
        return encode_content(raw, content)

    def _check_size(self, content: FileContent) -> None:
        if len(content.series) > self._settings.max_series:
            raise PayloadTooLargeError(
                f"the file may hold at most {self._settings.max_series} series"
            )


def series_request_body() -> dict[str, Any]:
    """Declare the body of the route."""
    content = dict.fromkeys(MEDIA_TYPES, BYTES_CONTENT)
    content["text/csv"]["example"] = "item_id,timestamp,target\nA,2024-01-01,3\nA,2024-02-01,5\n"
    return {"requestBody": {"required": True, "content": content}}


def encode_content(raw: RawTable, content: FileContent) -> bytes:
    """Write a ``FoundFile``."""
    columns = content.columns
    answer = {
        "columns": {
            "item_id": columns.item_id,
            "timestamp": columns.timestamp,
            "target": columns.target,
        },
        "all_columns": raw.table.column_names,
        "separator": raw.separator,
        "freq": content.freq,
        "num_rows": content.num_rows,
        "num_repeated": content.num_repeated,
        "without_values": content.without_values,
        "series": [_encode_series(series) for series in content.series],
    }
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def _encode_series(series: FileSeries) -> dict[str, Any]:
    timestamps = None if series.stamps is None else format_stamps_of(series.stamps)
    return {
        "item_id": series.item_id,
        "start": timestamps[0] if timestamps else None,
        "timestamps": timestamps,
        "target": series.target,
        "num_gaps": series.num_gaps,
        "num_missing": int(np.isnan(series.target).sum()),
    }
