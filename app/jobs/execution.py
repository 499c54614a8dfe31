"""Takes one job from where it stands to its end."""

import asyncio
import errno
import logging
import sqlite3

from app.bulk.options import BulkOptions
from app.bulk.run import BulkRun
from app.bulk.run import Progress as BulkProgress
from app.errors import BulkRunError, GatecastError, StorageError
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
_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS})

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

        Raises:
            StorageError: The disk is full, or broken; the job is where it was, to be run again.
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
        """Return why the job fails; empty where it does not.

        Raises:
            StorageError: It neither fails nor goes on: its disk takes nothing more.
        """
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
            self._raise_storage(error)
            return self._without_folder(error)
        except Exception as error:
            self._raise_storage(error)
            logger.exception("job %s failed", job.job_id)
            return _INTERNAL
        return "" if summary.num_rows else _NOTHING

    def _raise_storage(self, error: Exception) -> None:
        if _is_of_disk(error):
            raise StorageError(f"job {self._job.job_id}: {error}") from error

    def _without_folder(self, error: GatecastError) -> str:
        """Return what its owner may know, who is told of no path of the server."""
        return str(error).replace(f"{self._desk.files.folder(self._job.job_id)}/", "")

    def _note(self, progress: BulkProgress) -> None:
        self._progress = Progress(progress.done, progress.refused, progress.total)

    async def _finish(self, error: str) -> None:
        store, files, job = self._desk.store, self._desk.files, self._job
        if not await asyncio.to_thread(store.finish, job.job_id, self._progress, error=error):
            await asyncio.to_thread(files.remove, job.job_id)
            return
        JOBS.labels("failed" if error else "succeeded").inc()
        logger.info("job %s: %s", job.job_id, error or "succeeded")
        await asyncio.to_thread(files.remove_input, job.job_id)


def _is_of_disk(error: Exception) -> bool:
    """Whether a disk that is full or broken stopped a run, which is as good as before."""
    cause = error.__cause__ or error
    if isinstance(error, BulkRunError):
        return isinstance(cause, OSError | sqlite3.OperationalError)
    return isinstance(error, StorageError) or (
        isinstance(cause, OSError) and cause.errno in _DISK_ERRORS
    )


async def _stop(task: asyncio.Task[str]) -> None:
    if not task.done():
        task.cancel()
        await asyncio.wait([task])
    elif not task.cancelled():
        task.exception()  # it is told of where it is asked for, if at all
