"""Runs the batches of a job on the runners, below all live requests."""

import asyncio
import time
from typing import Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from app.bulk.forecaster import BatchLimits, BulkForecaster, BulkModel
from app.errors import (
    DeadlineExceededError,
    ModelNotFoundError,
    ModelNotReadyError,
    ModelOutputError,
    RetryableError,
)
from app.gateway.catalog import Catalog
from app.gateway.runners import Inference, Runners
from app.jobs.job import JobOptions
from app.settings import Settings
from app.tensors import Tensors
from app.wire import BACKGROUND_PRIORITY

_BATCHES_PER_RUNNER = 3
"""One runs, one waits beside it, and one is on its way."""
_CPU_ROWS, _CPU_STEPS = 16, 4096
"""Bounds of a batch on a CPU, where a live request may have to wait for all of it: half the rows
of a usual batch take half its time, and cost 3 % more a row (starter model)."""
_BATCH_TIMEOUT_S = 3600.0
"""A batch waits for as long as live requests leave no gap; this only ends a wait for nobody."""
_RETRY_DELAY_S = 0.1
_MAX_LOSSES = 5


class RunnerForecaster(BulkForecaster):
    """One version of a model on the runners; made by ``connect``.

    A runner that is lost, busy or draining is tried again. One that is lost time after time on the
    same batch ends the job, before the job ends the service.
    """

    def __init__(
        self, model: BulkModel, runners: Runners, limits: BatchLimits, *, concurrency: int
    ) -> None:
        self.model = model
        self.limits = limits
        self.concurrency = concurrency
        self._runners = runners
        self._catalog = Catalog(runners)

    @classmethod
    async def connect(cls, options: JobOptions, runners: Runners, settings: Settings) -> Self:
        """Wait for a runner that holds the model of a job.

        Raises:
            ModelNotFoundError: That version is not served any more, or is another file now.
            NoForecasterError: It makes no forecasts.
        """
        catalog = Catalog(runners)
        await _wait_for(catalog, options)
        model = catalog.find_able("forecast", options.model_name, str(options.model_version))
        described = BulkModel(
            model.model_name,
            model.model_version,
            model.digest,
            model.card,
            runtime=f"runners on {runners.device}",
        )
        limits = _limits_of(model.config.for_model(settings), runners.device)
        concurrency = _BATCHES_PER_RUNNER * runners.num_runners
        return cls(described, runners, limits, concurrency=concurrency)

    @override
    async def infer(self, inputs: Tensors) -> NDArray[np.float32]:
        """Run one batch in the background, again and again until it has run.

        Raises:
            ModelOutputError: A number is not finite.
            GatecastError: The model is gone, or failed, or took its runner along too often.
        """
        num_losses = 0
        while True:
            await _wait_for(self._catalog, self.model)
            try:
                outputs = await self._runners.infer(self._to_inference(inputs))
            except ModelNotReadyError:
                num_losses += 1
                if num_losses >= _MAX_LOSSES:
                    raise
            except (RetryableError, DeadlineExceededError):
                pass
            else:
                return _check_finite(outputs["quantiles"])
            await asyncio.sleep(_RETRY_DELAY_S)

    def _to_inference(self, inputs: Tensors) -> Inference:
        return Inference(
            model_name=self.model.model_name,
            model_version=self.model.model_version,
            inputs=inputs,
            outputs=("quantiles",),
            deadline=time.monotonic() + _BATCH_TIMEOUT_S,
            steps=inputs["past_target"].size,
            priority=BACKGROUND_PRIORITY,
        )


def _limits_of(own: Settings, device: str) -> BatchLimits:
    is_short = device != "cuda"
    return BatchLimits(
        max_batch_size=min(own.max_batch_size, _CPU_ROWS) if is_short else own.max_batch_size,
        max_batch_steps=min(own.max_batch_steps, _CPU_STEPS) if is_short else own.max_batch_steps,
        max_padding_share=own.max_padding_share,
    )


async def _wait_for(catalog: Catalog, wanted: JobOptions | BulkModel) -> None:
    """Wait until a runner is up, and check that it serves the file that the job began with.

    Raises:
        ModelNotFoundError: It does not.
    """
    digest = wanted.model_digest if isinstance(wanted, JobOptions) else wanted.digest
    while True:
        try:
            version = catalog.find_version(wanted.model_name, str(wanted.model_version))
        except ModelNotReadyError:
            await asyncio.sleep(_RETRY_DELAY_S)
            continue
        if version.digest != digest:
            raise ModelNotFoundError(
                f"model {wanted.model_name} version {wanted.model_version} is not the file any more"
                " that the job began with"
            )
        return


def _check_finite(quantiles: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(quantiles).all():
        raise ModelOutputError("the model gave numbers that are not finite")
    return quantiles
