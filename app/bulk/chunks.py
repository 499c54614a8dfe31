"""Forecasts the series of one chunk: rows, model runs, and the chunk as the journal keeps it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

from app.bulk.forecaster import BulkForecaster
from app.bulk.journal import FinishedChunk
from app.bulk.options import Aim
from app.bulk.rows import RowMaker
from app.bulk.source import Chunk
from app.bulk.tables import ForecastSeries, encode_rows, has_times
from app.errors import InvalidInputError
from app.files.series import FileSeries, RefusedSeries
from app.gateway.chunks import cut_into_chunks, stack_rows
from app.gateway.preparation import Row
from app.spacing import Stamps
from app.tensors import Tensors

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

_NOT_FINITE = "the model gave numbers that are not finite"
_TOO_LATE = "its forecast would reach beyond the year 9999"


@dataclass(frozen=True, slots=True)
class _Prepared:
    """The batches of a chunk; by position, the stamps of forecasts and why there is none."""

    batches: list[list[Row]]
    stamps: Mapping[int, Stamps]
    refusals: Mapping[int, str]


class ChunkForecaster:
    """Forecasts chunks of one file with one model."""

    def __init__(self, forecaster: BulkForecaster, aim: Aim, *, has_stamps: bool) -> None:
        self._forecaster = forecaster
        self._aim = aim
        self._has_stamps = has_stamps
        self._row_maker = RowMaker(aim)

    async def forecast(self, number: int, chunk: Chunk) -> FinishedChunk:
        """Forecast a chunk; what comes out follows from the chunk and the model alone.

        Raises:
            GatecastError: As ``BulkForecaster.infer``.
        """
        prepared = await in_thread(self._prepare, chunk)
        quantiles = await self._infer(prepared.batches)
        return await in_thread(self._finish, number, chunk, prepared, quantiles)

    def _prepare(self, chunk: Chunk) -> _Prepared:
        rows: list[Row] = []
        refusals: dict[int, str] = {}
        sound: list[FileSeries] = []
        for position, series in enumerate(chunk):
            if isinstance(series, RefusedSeries):
                refusals[position] = series.reason
                continue
            try:
                rows.append(self._row_maker.to_row(position, series))
                sound.append(series)
            except InvalidInputError as error:
                refusals[position] = str(error)
        stamps = self._stamps_by_position(rows, sound)
        late = {position for position, ahead in stamps.items() if np.isnat(ahead[-1])}
        refusals |= dict.fromkeys(late, _TOO_LATE)
        rows = [row for row in rows if row.position not in late]
        return _Prepared(cut_into_chunks(rows, self._forecaster.limits), stamps, refusals)

    def _stamps_by_position(
        self, rows: Sequence[Row], series: Sequence[FileSeries]
    ) -> dict[int, Stamps]:
        """Return nothing where time is a plain step."""
        stamps = self._row_maker.stamps_ahead(series)
        return {} if stamps is None else {r.position: s for r, s in zip(rows, stamps, strict=True)}

    async def _infer(self, batches: Sequence[Sequence[Row]]) -> dict[int, NDArray[np.float32]]:
        """Return the quantiles of each row by position; a row that has none is left out."""
        found: dict[int, NDArray[np.float32]] = {}
        alone: list[list[Row]] = []
        inputs = await in_thread(_stack_all, batches)
        for rows, outputs in zip(batches, await self._forecaster.infer_all(inputs), strict=True):
            if outputs is not None:
                selected = self._aim.selection.apply(outputs[:, : self._aim.horizon])
                found |= zip((row.position for row in rows), selected, strict=True)
            elif len(rows) > 1:
                alone += [[row] for row in rows]
        return found | await self._infer(alone) if alone else found

    def _finish(
        self,
        number: int,
        chunk: Chunk,
        prepared: _Prepared,
        quantiles: Mapping[int, NDArray[np.float32]],
    ) -> FinishedChunk:
        forecasts: list[ForecastSeries] = []
        refusals: list[bytes] = []
        for position, series in enumerate(chunk):
            if position in quantiles:
                stamps = prepared.stamps.get(position)
                forecasts.append(ForecastSeries(series.item_id, stamps, quantiles[position]))
            else:
                reason = prepared.refusals.get(position, _NOT_FINITE)
                refusals.append(_refusal_line(series.item_id, reason))
        levels = self._aim.selection.levels
        return FinishedChunk(
            number=number,
            num_series=len(chunk),
            num_refused=len(refusals),
            num_rows=len(forecasts) * self._aim.horizon,
            has_times=has_times(forecasts),
            rows=encode_rows(forecasts, levels, has_stamps=self._has_stamps),
            refusals=b"".join(refusals),
        )


def _stack_all(batches: Sequence[Sequence[Row]]) -> list[Tensors]:
    return [stack_rows(rows) for rows in batches]


def _refusal_line(item_id: str | None, reason: str) -> bytes:
    content = {"item_id": item_id, "error": reason}
    return orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)


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
