"""Forecasts the series of one chunk: rows, model runs, and the chunk as the journal keeps it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

from app.bulk.forecaster import BulkForecaster
from app.bulk.journal import FinishedChunk
from app.bulk.options import Aim
from app.bulk.source import Chunk
from app.bulk.tables import ForecastSeries, encode_rows, has_times
from app.calendar import Frequency
from app.errors import ModelOutputError
from app.files.series import FileSeries
from app.gateway.chunks import cut_into_chunks, stack_rows
from app.gateway.preparation import Row

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class _Refusal:
    item_id: str | None
    reason: str

    def to_line(self) -> bytes:
        return orjson.dumps(
            {"item_id": self.item_id, "error": self.reason}, option=orjson.OPT_APPEND_NEWLINE
        )


class ChunkForecaster:
    """Forecasts chunks of one file with one model."""

    def __init__(self, forecaster: BulkForecaster, aim: Aim, freq: Frequency | None) -> None:
        self._forecaster = forecaster
        self._aim = aim
        self._freq = freq

    async def forecast(self, number: int, chunk: Chunk) -> FinishedChunk:
        """Forecast a chunk; what comes out follows from the chunk and the model alone.

        Raises:
            GatecastError: As ``BulkForecaster.infer``.
        """
        batches = await in_thread(self._to_batches, chunk)
        quantiles: dict[int, NDArray[np.float32]] = {}
        for batch in batches:
            quantiles |= await self._infer(batch)
        return await in_thread(self._finish, number, chunk, quantiles)

    def _to_batches(self, chunk: Chunk) -> list[list[Row]]:
        rows = [
            self._to_row(position, series)
            for position, series in enumerate(chunk)
            if isinstance(series, FileSeries)
        ]
        return cut_into_chunks(rows, self._forecaster.limits)

    def _to_row(self, position: int, series: FileSeries) -> Row:
        target = series.target[-self._aim.card.context_length :].astype(np.float32)
        none = np.empty((len(target), 0), np.float32)
        return Row(
            position=position,
            target=target,
            past_covariates=none,
            future_covariates=none,
            static_covariates=none[0],
            timestamps=None,
        )

    async def _infer(self, rows: Sequence[Row]) -> dict[int, NDArray[np.float32]]:
        """Return the quantiles of each row by position; a row that has none is left out."""
        try:
            outputs = await self._forecaster.infer(stack_rows(rows))
        except ModelOutputError:
            if len(rows) == 1:
                return {}
            alone = [await self._infer([row]) for row in rows]
            return {position: found for one in alone for position, found in one.items()}
        selected = self._aim.selection.apply(outputs[:, : self._aim.horizon])
        return {row.position: quantiles for row, quantiles in zip(rows, selected, strict=True)}

    def _finish(
        self, number: int, chunk: Chunk, quantiles: dict[int, NDArray[np.float32]]
    ) -> FinishedChunk:
        forecasts: list[ForecastSeries] = []
        refusals: list[_Refusal] = []
        for position, series in enumerate(chunk):
            if not isinstance(series, FileSeries):
                refusals.append(_Refusal(series.item_id, series.reason))
            elif position not in quantiles:
                reason = "the model gave numbers that are not finite"
                refusals.append(_Refusal(series.item_id, reason))
            else:
                forecasts.append(self._to_forecast(series, quantiles[position]))
        levels = self._aim.selection.levels
        return FinishedChunk(
            number=number,
            num_series=len(chunk),
            num_refused=len(refusals),
            num_rows=len(forecasts) * self._aim.horizon,
            has_times=has_times(forecasts),
            rows=encode_rows(forecasts, levels, has_stamps=self._freq is not None),
            refusals=b"".join(refusal.to_line() for refusal in refusals),
        )

    def _to_forecast(self, series: FileSeries, quantiles: NDArray[np.float32]) -> ForecastSeries:
        stamps = None
        if self._freq is not None and series.stamps is not None:
            start = series.stamps[0].item()
            ahead = self._freq.stamps(start, len(series.target), self._aim.horizon)
            stamps = np.array(ahead, "M8[us]")
        return ForecastSeries(series.item_id, stamps, quantiles)


async def in_thread(
    function: Callable[_Arguments, _Result], *args: _Arguments.args, **kwargs: _Arguments.kwargs
) -> _Result:
    """As ``asyncio.to_thread``; a caller that is cancelled waits until the thread is done."""
    task = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
