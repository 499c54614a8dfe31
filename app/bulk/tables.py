"""Forecasts of many series as one Arrow table in long format, and that table as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.arrow import pa


@dataclass(frozen=True, slots=True)
class ForecastSeries:
    """One series.

    Attributes:
        stamps: ``(horizon,)``, ``datetime64[us]``; None counts the steps from 1.
        quantiles: ``(num_levels, horizon)``
    """

    item_id: str | None
    stamps: NDArray[np.datetime64] | None
    quantiles: NDArray[np.float32]


def table_schema(levels: Sequence[float], *, has_stamps: bool) -> pa.Schema:
    """Return the columns: item, stamp, and one for each quantile level, named by it."""
    return pa.schema(
        [
            ("item_id", pa.string()),
            ("timestamp", pa.timestamp("us") if has_stamps else pa.int64()),
            *((repr(level), pa.float32()) for level in levels),
        ]
    )


def encode_rows(
    series: Sequence[ForecastSeries], levels: Sequence[float], *, has_stamps: bool
) -> bytes:
    """Write series of one horizon as a compressed Arrow stream, one row per series and step."""
    schema = table_schema(levels, has_stamps=has_stamps)
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_stream(sink, schema, options=options) as writer:
        if series:
            writer.write_batch(_to_batch(series, schema))
    return bytes(sink.getvalue())


def decode_rows(content: bytes) -> pa.Table:
    """Read what ``encode_rows`` wrote."""
    with pa.ipc.open_stream(content) as reader:
        return reader.read_all()


def has_times(series: Sequence[ForecastSeries]) -> bool:
    """Whether a stamp is not a midnight."""
    stamps = [one.stamps for one in series if one.stamps is not None]
    if not stamps:
        return False
    joined = np.concatenate(stamps)
    return bool((joined != joined.astype("M8[D]")).any())


def _to_batch(series: Sequence[ForecastSeries], schema: pa.Schema) -> pa.RecordBatch:
    quantiles = np.stack([one.quantiles for one in series])
    num_series, num_levels, horizon = quantiles.shape
    names = pa.array([one.item_id for one in series], pa.string())
    steps = [np.arange(1, horizon + 1) if one.stamps is None else one.stamps for one in series]
    columns = [
        names.take(pa.array(np.repeat(np.arange(num_series), horizon))),
        pa.array(np.concatenate(steps), schema.field("timestamp").type),
        *(pa.array(quantiles[:, level].reshape(-1)) for level in range(num_levels)),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
