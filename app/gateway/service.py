"""Forecasts without HTTP: a decoded request in, quantiles out; dialects adapt to this."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from app.errors import (
    DeadlineExceededError,
    InvalidInputError,
    ModelOutputError,
    PayloadTooLargeError,
)
from app.gateway.catalog import Forecaster, ReadyModel
from app.gateway.chunks import cut_into_chunks, stack_rows
from app.gateway.forecast_schemas import ForecastRequest
from app.gateway.preparation import PreparedRequest, Row, prepare_request
from app.gateway.runner_client import Inference, Runners
from app.gateway.time_limits import TimeLimit
from app.metrics import SERIES
from app.settings import Settings
from app.tensors import Tensors
from app.wire import SequencePart

_MAX_CONCURRENT_CHUNKS = 32


@dataclass(frozen=True, slots=True)
class SeriesQuantiles:
    """Forecast of one series: ``(num_levels, horizon)``, ascending on axis 0."""

    quantiles: NDArray[np.float32]
    timestamps: Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """Forecasts of a request, by position in it; each is in exactly one of the two mappings."""

    model: Forecaster
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

    def prepare(self, request: ForecastRequest, model: Forecaster) -> PreparedRequest:
        """Check a request and turn its series into rows; a wrong one is refused in its place.

        This only computes; a large request is better prepared off the event loop.

        Raises:
            InvalidInputError: The request, or every series in it, is wrong.
        """
        return prepare_request(request, model.card, self._settings)

    async def forecast(
        self, prepared: PreparedRequest, model: Forecaster, *, deadline: float
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
        outputs = await self._infer_all(
            [partial(self._to_inference, rows, model, deadline) for rows in chunks], deadline
        )
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

    async def infer(
        self,
        inputs: Tensors,
        outputs: Sequence[str],
        model: ReadyModel,
        *,
        deadline: float,
        priority: int = 0,
        sequence: SequencePart | None = None,
    ) -> Tensors:
        """Run tensors as they are; more rows than one run takes are divided.

        Args:
            inputs: They fit the model's interface.
            outputs: Names of what is wanted.
            model: What to run.
            deadline: Time of ``time.monotonic()`` by which the answer is needed.
            priority: 1 is the highest, 0 leaves it to the service.
            sequence: Where the request stands in a sequence; its rows are never divided.

        Raises:
            PayloadTooLargeError: There are more rows or steps than a request may have.
            GatecastError: As ``Runners.infer``.
        """
        interface = model.interface
        rows, length = interface.rows_of(inputs), interface.length_of(inputs)
        self._check_size(rows, length)
        if sequence is not None and rows > self._settings.max_batch_size:
            raise PayloadTooLargeError(
                f"a request of a sequence may hold at most {self._settings.max_batch_size} rows"
            )
        step = rows
        if rows > 1 and interface.is_mergeable and sequence is None:
            limits = self._settings
            step = max(1, min(limits.max_batch_size, limits.max_batch_steps // length))
        parts = [
            partial(
                Inference,
                model_name=model.model_name,
                model_version=model.model_version,
                inputs=interface.slice_rows(inputs, start, start + step),
                outputs=tuple(outputs),
                deadline=deadline,
                steps=min(step, rows - start) * length,
                priority=priority,
                sequence=sequence,
            )
            for start in range(0, rows, step)
        ]
        return interface.join_rows(await self._infer_all(parts, deadline))

    def _check_size(self, rows: int, length: int) -> None:
        if rows > self._settings.max_series:
            raise PayloadTooLargeError(
                f"a request may hold at most {self._settings.max_series} rows"
            )
        if rows * length > self._settings.max_steps:
            raise PayloadTooLargeError(
                f"a request may hold at most {self._settings.max_steps} steps, all rows"
            )

    async def _infer_all(
        self, parts: Sequence[Callable[[], Inference]], deadline: float
    ) -> list[Tensors]:
        """Run all parts, each made when its turn comes; the first failure cancels the others."""
        time_limit = TimeLimit(deadline)
        try:
            with time_limit:
                return await self._infer_in_turn(parts)
        except TimeoutError as error:
            if time_limit.expired:
                raise DeadlineExceededError("the deadline passed before the forecast") from error
            raise

    async def _infer_in_turn(self, parts: Sequence[Callable[[], Inference]]) -> list[Tensors]:
        if len(parts) == 1:
            return [await self._runners.infer(parts[0]())]
        slots = asyncio.Semaphore(_MAX_CONCURRENT_CHUNKS)

        async def infer(part: Callable[[], Inference]) -> Tensors:
            async with slots:
                return await self._runners.infer(part())

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(infer(part)) for part in parts]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    def _to_inference(self, rows: Sequence[Row], model: Forecaster, deadline: float) -> Inference:
        inputs = stack_rows(rows)
        return Inference(
            model_name=model.model_name,
            model_version=model.model_version,
            inputs=inputs,
            outputs=("quantiles",),
            deadline=deadline,
            steps=inputs["past_target"].size,
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
