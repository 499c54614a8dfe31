"""Forecasts without HTTP: a decoded request in, quantiles out; dialects adapt to this."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Counter

from app.errors import InvalidInputError, PayloadTooLargeError
from app.extrapolation import join_blocks, median_index
from app.gateway.catalog import Forecaster, ReadyModel
from app.gateway.chunks import cut_into_chunks, stack_rows
from app.gateway.following import follow_rows
from app.gateway.forecast_schemas import ForecastRequest, Note
from app.gateway.inferences import check_finite, infer_all
from app.gateway.preparation import PreparedRequest, Row, num_blocks, prepare_request
from app.gateway.runners import Inference, Runners
from app.metrics import SERIES
from app.settings import Settings
from app.tensors import Tensors
from app.wire import SequencePart


@dataclass(frozen=True, slots=True)
class SeriesQuantiles:
    """Forecast of one series: ``(num_levels, horizon)``, ascending on axis 0."""

    quantiles: NDArray[np.float32]
    timestamps: Sequence[str] | None
    notes: tuple[Note, ...] = ()


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

    def check_room(self, model_name: str) -> None:
        """Refuse early what the runners would refuse, as ``Runners.check_room``."""
        self._runners.check_room(model_name)

    def prepare(
        self, request: ForecastRequest, model: Forecaster, *, max_horizon: int | None = None
    ) -> PreparedRequest:
        """Check a request and turn its series into rows; a wrong one is refused in its place.

        This only computes; a large request is better prepared off the event loop.

        Args:
            request: What is asked for.
            model: What to forecast with.
            max_horizon: Most steps ahead; None for the model's horizon.

        Raises:
            InvalidInputError: The request, or every series in it, is wrong.
        """
        return prepare_request(
            request, model.card, self._settings, max_horizon=max_horizon or model.card.horizon
        )

    async def forecast(
        self,
        prepared: PreparedRequest,
        model: Forecaster,
        *,
        deadline: float,
        owner: str | None = None,
    ) -> Forecast:
        """Forecast all series of a request that ``prepare`` made for the same model.

        Args:
            prepared: The series.
            model: What to forecast them with.
            deadline: Time of ``time.monotonic()`` by which the answer is needed.
            owner: Id of the caller's key, where states may be kept for it; None where not.

        Raises:
            GatecastError: As ``Runners.infer``; then no series has a forecast.
        """
        if not (self._settings.state_cache_bytes and model.config.keeps_states):
            owner = None
        chunks = cut_into_chunks(prepared.rows, model.config.for_model(self._settings))
        quantiles = await self._forecast_chunks(
            chunks, num_blocks(prepared.horizon, model.card), model, deadline, owner
        )
        series = dict(_split(chunks, quantiles, prepared))
        forecast, refused = _series_counters(model.model_name, model.model_version)
        forecast.inc(len(series))
        if prepared.refusals:
            refused.inc(len(prepared.refusals))
        return Forecast(
            model=model,
            item_ids=prepared.item_ids,
            horizon=prepared.horizon,
            quantile_levels=prepared.selection.levels,
            series=series,
            refusals=prepared.refusals,
        )

    async def _forecast_chunks(
        self,
        chunks: Sequence[Sequence[Row]],
        blocks: int,
        model: Forecaster,
        deadline: float,
        owner: str | None,
    ) -> list[NDArray[np.float32]]:
        """Return ``(batch, blocks * model horizon, num_quantiles)`` of each chunk."""
        card, rows, ran = model.card, chunks, [await self._run(chunks, model, deadline, owner)]
        for _ in range(1, blocks):
            pairs = zip(rows, ran[-1], strict=True)
            rows = [follow_rows(chunk, quantiles, card) for chunk, quantiles in pairs]
            # Nothing is kept of values that are made up.
            ran.append(await self._run(rows, model, deadline, None))
        median = median_index(card.quantile_levels)
        return [
            join_blocks(of_chunk, median, is_nonnegative=card.is_nonnegative)
            for of_chunk in zip(*ran, strict=True)
        ]

    async def _run(
        self,
        chunks: Sequence[Sequence[Row]],
        model: Forecaster,
        deadline: float,
        owner: str | None,
    ) -> list[NDArray[np.float32]]:
        """Return ``(batch, model horizon, num_quantiles)`` of each chunk."""
        max_wait_s = model.config.for_model(self._settings).max_queue_wait_ms / 1000
        ask = partial(_to_inference, model=model, deadline=deadline, owner=owner)
        outputs = await infer_all(
            self._runners, [partial(ask, rows, max_wait_s=max_wait_s) for rows in chunks]
        )
        return [check_finite(tensors["quantiles"]) for tensors in outputs]

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
        interface, limits = model.interface, model.config.for_model(self._settings)
        rows, length = interface.rows_of(inputs), interface.length_of(inputs)
        self._check_size(rows, length)
        if sequence is not None and rows > limits.max_batch_size:
            raise PayloadTooLargeError(
                f"a request of a sequence may hold at most {limits.max_batch_size} rows"
            )
        step = rows
        if rows > 1 and interface.is_mergeable and sequence is None:
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
                priority=_to_level(priority, limits.priority_levels),
                sequence=sequence,
                max_wait_s=limits.max_queue_wait_ms / 1000,
            )
            for start in range(0, rows, step)
        ]
        return interface.join_rows(await infer_all(self._runners, parts))

    def _check_size(self, rows: int, length: int) -> None:
        if rows > self._settings.max_series:
            raise PayloadTooLargeError(
                f"a request may hold at most {self._settings.max_series} rows"
            )
        if rows * length > self._settings.max_steps:
            raise PayloadTooLargeError(
                f"a request may hold at most {self._settings.max_steps} steps, all rows"
            )


def _to_level(priority: int, num_levels: int) -> int:
    """Return the level that a priority means: 0 for the one in the middle, whatever names it."""
    is_level = 1 <= priority <= num_levels and priority != (num_levels + 1) // 2
    return priority if is_level else 0


def _to_inference(
    rows: Sequence[Row],
    *,
    model: Forecaster,
    deadline: float,
    owner: str | None,
    max_wait_s: float,
) -> Inference:
    inputs = stack_rows(rows)
    return Inference(
        model_name=model.model_name,
        model_version=model.model_version,
        inputs=inputs,
        outputs=("quantiles",),
        deadline=deadline,
        steps=inputs["past_target"].size,
        owner=owner,
        max_wait_s=max_wait_s,
    )


@lru_cache(maxsize=1024)
def _series_counters(model_name: str, model_version: int) -> tuple[Counter, Counter]:
    """Look up the counters of a version; both are on show as soon as one counts."""
    version = (model_name, str(model_version))
    return SERIES.labels(*version, "forecast"), SERIES.labels(*version, "refused")


def _split(
    chunks: Sequence[Sequence[Row]],
    quantiles: Sequence[NDArray[np.float32]],
    prepared: PreparedRequest,
) -> list[tuple[int, SeriesQuantiles]]:
    """Give each row its own quantiles."""
    series: list[tuple[int, SeriesQuantiles]] = []
    for rows, of_chunk in zip(chunks, quantiles, strict=True):
        steps = of_chunk[:, : prepared.horizon]
        for row, levels in zip(rows, prepared.selection.apply(steps), strict=True):
            series.append((row.position, SeriesQuantiles(levels, row.timestamps, row.notes)))
    return series
