"""Takes one job from where it stands to its end."""

import asyncio
import logging
import shutil

from app.bulk.options import BulkOptions
from app.bulk.run import BulkRun
from app.bulk.run import Progress as BulkProgress
from app.errors import GatecastError
from app.files.raw import FileLimits
from app.gateway.runners import Runners
from app.jobs.desk import JobDesk
from app.jobs.forecaster import RunnerForecaster
from app.jobs.job import Job, Progress
from app.metrics import JOBS
from app.settings import Settings

_LOOK_INTERVAL_S = 0.2
_MOST_INFLATED = 16
"""How many times the largest file its columns may hold, decompressed."""
_NOTHING = "none of the series can be forecast; the errors of the job say why"
_INTERNAL = "the job failed inside the service, whose log tells more"

logger = logging.getLogger("gatecast.jobs")


class JobExecution:
    """Runs one job, which may have been begun before.

    What is done of it is in its folder: whoever runs it again after a loss goes on from there.
    """

    def __init__(self, job: Job, desk: JobDesk, runners: Runners, settings: Settings) -> None:
        self._job = job
        self._desk = desk
        self._runners = runners
        self._settings = settings
        self._progress = job.progress

    async def run(self) -> None:
        """Finish the job, or leave it where it is when its owner cancels it.

        Cancelling the call stops within one batch and leaves the job to the next worker.
        """
        forecasting = asyncio.create_task(self._forecast())
        try:
            while not forecasting.done():
                await asyncio.wait([forecasting], timeout=_LOOK_INTERVAL_S)
                if not await self._report():
                    await _stop(forecasting)
                    await asyncio.to_thread(self._desk.files.remove, self._job.job_id)
                    return
        finally:
            await _stop(forecasting)
        await self._finish(forecasting.result())

    async def _report(self) -> bool:
        """Record how far the job has come; return whether it is still wanted."""
        return await asyncio.to_thread(
            self._desk.store.record_progress, self._job.job_id, self._progress
        )

    async def _forecast(self) -> str:
        """Return why the job fails; empty where it does not."""
        job = self._job
        options = BulkOptions(
            output=self._desk.files.result_of(job),
            errors=self._desk.files.errors_of(job),
            roles=job.options.roles,
            freq=job.options.freq,
            horizon=job.options.horizon,
            quantile_levels=job.options.quantile_levels,
            limits=FileLimits(max_decoded_bytes=_MOST_INFLATED * self._settings.max_job_file_bytes),
        )
        try:
            forecaster = await RunnerForecaster.connect(job.options, self._runners, self._settings)
            source = self._desk.files.input_of(job.job_id, job.options)
            run = BulkRun(source, options, self._desk.files.run_of(job), forecaster)
            summary = await run.run(self._note)
        except GatecastError as error:
            return str(error)
        except Exception:
            logger.exception("job %s failed", job.job_id)
            return _INTERNAL
        return "" if summary.num_rows else _NOTHING

    def _note(self, progress: BulkProgress) -> None:
        self._progress = Progress(progress.done, progress.refused, progress.total)

    async def _finish(self, error: str) -> None:
        store, files, job = self._desk.store, self._desk.files, self._job
        if not await asyncio.to_thread(store.finish, job.job_id, self._progress, error=error):
            await asyncio.to_thread(files.remove, job.job_id)
            return
        JOBS.labels("failed" if error else "succeeded").inc()
        logger.info("job %s: %s", job.job_id, error or "succeeded")
        await asyncio.to_thread(shutil.rmtree, files.run_of(job), ignore_errors=True)
        files.input_of(job.job_id, job.options).unlink(missing_ok=True)


async def _stop(task: asyncio.Task[str]) -> None:
    if not task.done():
        task.cancel()
        await asyncio.wait([task])
