"""The worker process: runs the jobs of the journal, one at a time, and clears away old ones."""

import argparse
import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path

import uvloop

from app.errors import StartupError, StorageError
from app.gateway.runner_client import RunnerPool
from app.gateway.runners import Runners
from app.jobs.desk import JobDesk
from app.jobs.destinations import DestinationRules
from app.jobs.execution import JobExecution
from app.jobs.webhooks import WebhookSender
from app.lifeline import STARTUP_FAILURE_STATUS, Lifeline, ReadyReport
from app.logs import configure_logging
from app.niceness import give_way
from app.settings import Settings, load_settings

_LOOK_INTERVAL_S = 0.2
_TIDY_INTERVAL_S = 5.0
_STORAGE_PAUSE_S = 5.0
_ORPHANED_AFTER_S = 86_400.0
_LOCK_TIMEOUT_S = 10.0
_LOCK_RETRY_S = 0.05
_NICENESS = 10
_STOP_TIMEOUT_S = 5.0
_STOPPED_BY = (signal.SIGTERM, signal.SIGINT)

logger = logging.getLogger("gatecast.jobs")


class Worker:
    """Three loops over one journal: run jobs, tell their owners, clear away.

    Args:
        desk: The jobs.
        runners: What runs the models.
        settings: Settings of the service.
        storage_pause_s: How long a loop waits for a disk that takes nothing more.
    """

    def __init__(
        self,
        desk: JobDesk,
        runners: Runners,
        settings: Settings,
        *,
        storage_pause_s: float = _STORAGE_PAUSE_S,
    ) -> None:
        self._desk = desk
        self._runners = runners
        self._settings = settings
        self._storage_pause_s = storage_pause_s
        self._running_id = ""
        self._claimed_id = ""
        self._cleared_ids: set[str] = set()

    async def work(self) -> None:
        """Run whatever is queued, until cancelled; then what is begun waits for the next worker."""
        loops = [self._run_next, self._tidy]
        if secret := self._settings.webhook_secret:
            rules = DestinationRules(self._settings.trusted_webhook_hosts)
            loops.append(WebhookSender(self._desk.store, rules, secret).send_due)
        intervals_s = (_LOOK_INTERVAL_S, _TIDY_INTERVAL_S, _LOOK_INTERVAL_S)
        async with asyncio.TaskGroup() as group:
            for act, interval_s in zip(loops, intervals_s, strict=False):
                group.create_task(self._repeat(act, interval_s))

    async def _run_next(self) -> None:
        while job := await asyncio.to_thread(self._desk.store.claim, self._claimed_id):
            self._running_id = self._claimed_id = job.job_id
            try:
                await JobExecution(job, self._desk, self._runners, self._settings).run()
            finally:
                self._running_id = ""

    async def _tidy(self) -> None:
        """Remove what is deleted, what is too old, and what is left where nothing goes on."""
        store, files = self._desk.store, self._desk.files
        await asyncio.to_thread(store.hide_older, self._settings.job_retention_s)
        for job_id in await asyncio.to_thread(store.hidden_ids):
            if job_id != self._running_id:
                await asyncio.to_thread(files.remove, job_id)
                await asyncio.to_thread(store.forget, job_id)
        await asyncio.to_thread(self._clear_ended)
        old = await asyncio.to_thread(files.old_folders, time.time() - _ORPHANED_AFTER_S)
        known = await asyncio.to_thread(store.known_ids) if old else set()
        for job_id in set(old) - known:
            await asyncio.to_thread(files.remove, job_id)

    def _clear_ended(self) -> None:
        """Remove what ended jobs do not need, whoever ended them: all, where there is no result."""
        files, states = self._desk.files, self._desk.store.ended_states()
        self._cleared_ids &= states.keys()
        for job_id in states.keys() - self._cleared_ids - {self._running_id}:
            if states[job_id] == "cancelled":
                files.remove(job_id)
            else:
                files.remove_input(job_id)
            self._cleared_ids.add(job_id)

    async def _repeat(self, act: Callable[[], Awaitable[None]], interval_s: float) -> None:
        while True:
            try:
                await act()
            except StorageError as error:
                logger.error("jobs wait: %s", error)  # noqa: TRY400 - the disk is at fault, not the code
                await asyncio.sleep(self._storage_pause_s)
            await asyncio.sleep(interval_s)


def main() -> None:
    """Work until told to stop; an error at start goes to the supervisor, with status 78."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lifeline", type=int, required=True)
    parser.add_argument("--runner", type=Path, action="append", required=True)
    arguments = parser.parse_args()
    lifeline = Lifeline(arguments.lifeline)
    try:
        settings = load_settings()
        configure_logging(settings)
        desk = _open_desk(settings)
        give_way(_NICENESS)
        with lock_of(desk.files.directory):
            # Where /tmp is memory, or outlives a kill, rows that are divided do not belong there.
            tempfile.tempdir = str(desk.files.make_scratch())
            uvloop.run(_serve(desk, settings, lifeline, arguments.runner))
    except StartupError as error:
        lifeline.report(ReadyReport(failure=str(error)))
        sys.exit(STARTUP_FAILURE_STATUS)


def _open_desk(settings: Settings) -> JobDesk:
    desk = JobDesk.open(settings)
    if desk is None:
        raise StartupError("GATECAST_JOBS_DIRECTORY: is needed for a worker")
    return desk


async def _serve(
    desk: JobDesk, settings: Settings, lifeline: Lifeline, runners: list[Path]
) -> None:
    stopped = asyncio.Event()
    for number in _STOPPED_BY:
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    pool = RunnerPool(
        runners, silence_s=settings.watchdog_s, max_queue_steps=settings.max_queue_steps
    )
    async with pool:
        lifeline.report(ReadyReport())
        beating = asyncio.create_task(lifeline.beat_until(stopped))
        working = asyncio.create_task(Worker(desk, pool, settings).work())
        await asyncio.wait([beating, working], return_when=asyncio.FIRST_COMPLETED)
        stopped.set()
        working.cancel()
        await beating
        await asyncio.wait([working], timeout=_STOP_TIMEOUT_S)
        if not working.done():
            os._exit(0)  # some thread reads a large file; a kill is as safe for a job as any end
        if not working.cancelled():
            working.result()


@contextlib.contextmanager
def lock_of(directory: Path, timeout_s: float = _LOCK_TIMEOUT_S) -> Generator[None]:
    """Keep every other worker away from a folder; one that is on its way out is waited for.

    Raises:
        StartupError: Another one stays.
    """
    give_up_at = time.monotonic() + timeout_s
    with (directory / "worker.lock").open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > give_up_at:
                    raise StartupError(
                        "GATECAST_JOBS_DIRECTORY: another service works in this folder"
                    ) from error
            time.sleep(_LOCK_RETRY_S)
        yield


if __name__ == "__main__":
    main()
