"""Forecasts as a file, piece by piece, so that a long answer never lies in memory as a whole."""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import orjson
from numpy.typing import NDArray
from typing_extensions import Buffer, override

from app.arrow import pa, pa_csv, pa_parquet

AnswerFormat = Literal["csv", "jsonl", "parquet", "arrow"]


@dataclass(frozen=True, slots=True)
class WrittenSeries:
    """The forecast of one series, or why there is none.

    Attributes:
        timestamps: ISO 8601, one per step ahead; None counts the steps from 1.
        quantiles: ``(num_levels, horizon)``; None where there is an error.
        notes: What a reader should know; for JSON Lines alone.
    """

    item_id: str | None
    timestamps: Sequence[str] | None
    quantiles: NDArray[np.float32] | None
    error: str | None = None
    notes: Sequence[str] = ()


class ForecastWriter(Protocol):
    """Writes series as they come; each call returns the bytes that are ready."""

    @abstractmethod
    def write(self, series: Sequence[WrittenSeries]) -> bytes:
        """Write some series."""

    @abstractmethod
    def finish(self) -> bytes:
        """Write the end."""


def make_writer(
    answer_format: AnswerFormat, levels: Sequence[float], *, has_stamps: bool
) -> ForecastWriter:
    """Return the writer of a format; columns of quantiles are named by their level."""
    if answer_format == "jsonl":
        return _JsonLinesWriter(levels)
    return _TableWriter(answer_format, levels, has_stamps=has_stamps)


class _JsonLinesWriter(ForecastWriter):
    def __init__(self, levels: Sequence[float]) -> None:
        self._names = [repr(level) for level in levels]

    @override
    def write(self, series: Sequence[WrittenSeries]) -> bytes:
        option = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
        return b"".join(orjson.dumps(self._to_object(one), option=option) for one in series)

    @override
    def finish(self) -> bytes:
        return b""

    def _to_object(self, series: WrittenSeries) -> dict[str, Any]:
        content: dict[str, Any] = {} if series.item_id is None else {"item_id": series.item_id}
        if series.quantiles is None:
            return content | {"error": series.error}
        if series.timestamps is not None:
            content["timestamps"] = series.timestamps
        if series.notes:
            content["notes"] = series.notes
        rows = [np.ascontiguousarray(row) for row in series.quantiles]
        return content | {"quantiles": dict(zip(self._names, rows, strict=True))}


class _Outbox(io.RawIOBase):
    """A file whose content is taken away as it grows."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._position = 0

    @override
    def writable(self) -> bool:
        return True

    @override
    def tell(self) -> int:
        return self._position

    @override
    def write(self, content: Buffer, /) -> int:
        piece = bytes(content)
        self._pieces.append(piece)
        self._position += len(piece)
        return len(piece)

    def take(self) -> bytes:
        content = b"".join(self._pieces)
        self._pieces.clear()
        return content


class _TableWriter(ForecastWriter):
    def __init__(self, kind: AnswerFormat, levels: Sequence[float], *, has_stamps: bool) -> None:
        time = pa.string() if kind == "csv" else pa.timestamp("us")
        self._schema = pa.schema(
            [
                ("item_id", pa.string()),
                ("timestamp", time if has_stamps else pa.int64()),
                *((repr(level), pa.float32()) for level in levels),
                ("error", pa.string()),
            ]
        )
        self._outbox = _Outbox()
        self._writer = _open(kind, self._outbox, self._schema)

    @override
    def write(self, series: Sequence[WrittenSeries]) -> bytes:
        if series:
            self._writer.write_table(pa.concat_tables([self._to_table(one) for one in series]))
        return self._outbox.take()

    @override
    def finish(self) -> bytes:
        self._writer.close()
        return self._outbox.take()

    def _to_table(self, series: WrittenSeries) -> pa.Table:
        count = 1 if series.quantiles is None else series.quantiles.shape[1]
        num_levels = len(self._schema) - 3
        quantiles = [None] * num_levels if series.quantiles is None else list(series.quantiles)
        columns = [
            pa.array([series.item_id] * count, pa.string()),
            self._times(series, count),
            *(pa.nulls(count, pa.float32()) if q is None else pa.array(q) for q in quantiles),
            pa.array([series.error] * count, pa.string()),
        ]
        return pa.Table.from_arrays(columns, schema=self._schema)

    def _times(self, series: WrittenSeries, count: int) -> pa.Array:
        kind = self._schema.field("timestamp").type
        if series.quantiles is None:
            return pa.nulls(count, kind)
        if series.timestamps is None:
            return pa.array(np.arange(1, count + 1), kind)
        if pa.types.is_string(kind):
            return pa.array(series.timestamps, kind)
        return pa.array(np.array(series.timestamps, "M8[us]"), kind)


def _open(kind: AnswerFormat, outbox: _Outbox, schema: pa.Schema) -> Any:
    if kind == "csv":
        return pa_csv.CSVWriter(outbox, schema)
    if kind == "parquet":
        return pa_parquet.ParquetWriter(outbox, schema, compression="zstd")
    return pa.ipc.new_stream(outbox, schema)
