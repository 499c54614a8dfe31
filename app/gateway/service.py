"""Forecasts without HTTP: a decoded request in, quantiles out; dialects adapt to this."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.errors import DeadlineExceededError, InvalidInputError, ModelOutputError
from app.gateway.catalog import ReadyModel
from app.gateway.chunks import cut_into_chunks, stack_rows
from app.gateway.forecast_schemas import ForecastRequest
from app.gateway.preparation import PreparedRequest, Row, prepare_request
from app.gateway.runner_client import Inference, Runners
from app.metrics import SERIES
from app.settings import Settings
from app.tensors import Tensors

_MAX_CONCURRENT_CHUNKS = 32


@dataclass(frozen=True, slots=True)
class SeriesQuantiles:
    """Forecast of one series: ``(num_levels, horizon)``, ascending on axis 0."""

    quantiles: NDArray[np.float32]
    timestamps: Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """Forecasts of a request, by position in it; each is in exactly one of the two mappings."""

    model: ReadyModel
    item_ids: tuple[str | None, ...]
    horizon: int
    quantile_levels: tuple[float, ...]
    series: Mapping[int, SeriesQuantiles]
    refusals: Mapping[int, InvalidInputError]


class ForecastService:
    """Makes forecasts with the runners."""

    def __init__(self, runners: Runners, settings: Settings) -> None:
        self._runners = runners
        self._settings = settings

    def prepare(self, request: ForecastRequest, model: ReadyModel) -> PreparedRequest:
        """Check a request and turn its series into rows; a wrong one is refused in its place.

        This only computes; a large request is better prepared off the event loop.

        Raises:
            InvalidInputError: The request, or every series in it, is wrong.
        """
        return prepare_request(request, model.card, self._settings)

    async def forecast(
        self, prepared: PreparedRequest, model: ReadyModel, *, deadline: float
    ) -> Forecast:
        """Forecast all series of a request that ``prepare`` made for the same model.

        Args:
            prepared: The series.
            model: What to forecast them with.
            deadline: Time of ``time.monotonic()`` by which the answer is needed.

        Raises:
            GatecastError: As ``Runners.infer``; then no series has a forecast.
        """
        chunks = cut_into_chunks(prepared.rows, self._settings)
        time_limit = asyncio.timeout(deadline - time.monotonic())
        try:
            async with time_limit:
                outputs = await self._infer_all(chunks, model, deadline)
        except TimeoutError as error:
            if time_limit.expired():
                raise DeadlineExceededError("the deadline passed before the forecast") from error
            raise
        series = dict(_split(chunks, outputs, prepared))
        SERIES.labels(model.model_name, "forecast").inc(len(series))
        SERIES.labels(model.model_name, "refused").inc(len(prepared.refusals))
        return Forecast(
            model=model,
            item_ids=prepared.item_ids,
            horizon=prepared.horizon,
            quantile_levels=prepared.selection.levels,
            series=series,
            refusals=prepared.refusals,
        )

    async def _infer_all(
        self, chunks: Sequence[Sequence[Row]], model: ReadyModel, deadline: float
    ) -> list[Tensors]:
        """Run all chunks, some at a time; the first failure cancels the others."""
        if len(chunks) == 1:
            return [await self._infer(chunks[0], model, deadline)]
        slots = asyncio.Semaphore(_MAX_CONCURRENT_CHUNKS)

        async def infer_in_turn(rows: Sequence[Row]) -> Tensors:
            async with slots:
                return await self._infer(rows, model, deadline)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(infer_in_turn(rows)) for rows in chunks]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _infer(self, rows: Sequence[Row], model: ReadyModel, deadline: float) -> Tensors:
        return await self._runners.infer(
            Inference(
                model_name=model.model_name,
                model_version=model.model_version,
                inputs=stack_rows(rows),
                outputs=("quantiles",),
                deadline=deadline,
            )
        )


def _split(
    chunks: Sequence[Sequence[Row]], outputs: Sequence[Tensors], prepared: PreparedRequest
) -> list[tuple[int, SeriesQuantiles]]:
    """Give each row its own quantiles."""
    series: list[tuple[int, SeriesQuantiles]] = []
    for rows, tensors in zip(chunks, outputs, strict=True):
        steps = tensors["quantiles"][:, : prepared.horizon]
        if not np.isfinite(steps).all():
            raise ModelOutputError("the model gave numbers that are not finite")
        for row, quantiles in zip(rows, prepared.selection.apply(steps), strict=True):
            series.append((row.position, SeriesQuantiles(quantiles, row.timestamps)))
    return series
