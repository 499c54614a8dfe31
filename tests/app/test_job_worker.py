"""What keeps a folder of jobs in order: one worker, and no file without a job."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.errors import StartupError
from app.jobs.desk import JobDesk
from app.jobs.job import Job, JobOptions, NewJob, Progress
from app.jobs.worker import Worker, lock_of
from app.settings import Settings, load_settings
from tests.fakes import FakeRunners, forecaster, make_card
from tests.waiting import until

NUM_PAUSES = 12
"""More than the starts without progress that a job may have."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(jobs_directory=tmp_path)


@pytest.fixture
def desk(settings: Settings) -> JobDesk:
    desk = JobDesk.open(settings)
    assert desk is not None
    return desk


@asynccontextmanager
async def working(
    desk: JobDesk, settings: Settings, runners: FakeRunners | None = None
) -> AsyncIterator[None]:
    """Run jobs until the block ends; a full disk is tried again at once."""
    worker = Worker(desk, runners or FakeRunners(), settings, storage_pause_s=0.0)
    task = asyncio.create_task(worker.work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def queue(desk: JobDesk, runners: FakeRunners | None = None) -> Job:
    """Queue a job with a run that was begun."""
    options = JobOptions(
        model_name="monthly",
        model_version=1,
        model_digest=runners.versions[0].digest if runners else "0",
        file_format="csv",
        output_format="csv",
        freq="M",
    )
    incoming = desk.files.receive("1", options)
    incoming.write(b"item_id,timestamp,target\na,2024-01-01,1\na,2024-02-01,2\n")
    incoming.close()
    job = desk.store.add(NewJob(job_id="1", owner="a", options=options, fingerprint="f"))
    desk.files.run_of(job).mkdir()
    (desk.files.run_of(job) / "rows").write_text("rows")
    return job


def test_folder_has_one_worker(tmp_path: Path) -> None:
    with lock_of(tmp_path):
        second = lock_of(tmp_path, timeout_s=0)
        with pytest.raises(StartupError, match="another service"):
            second.__enter__()
    with lock_of(tmp_path, timeout_s=0):
        pass


async def test_files_that_a_lost_gateway_left_are_removed_after_a_day(
    desk: JobDesk, settings: Settings, tmp_path: Path
) -> None:
    left, arriving = tmp_path / "left", tmp_path / "arriving"
    for folder in (left, arriving):
        folder.mkdir()
        (folder / "input.csv").write_text("target\n1\n")
    os.utime(left, (0, 0))
    async with working(desk, settings):
        await until(lambda: not left.exists())
    assert arriving.exists()


async def test_job_that_is_cancelled_before_it_begins_leaves_no_files(
    desk: JobDesk, settings: Settings
) -> None:
    queue(desk)
    desk.store.cancel("1", "a")
    async with working(desk, settings):
        await until(lambda: not desk.files.folder("1").exists())
    assert desk.store.find("1", "a").state == "cancelled"


async def test_job_that_took_its_workers_along_keeps_no_input_and_no_run(
    desk: JobDesk, settings: Settings
) -> None:
    job = queue(desk)
    desk.files.errors_of(job).write_text("errors")
    for _ in range(11):
        desk.store.claim()
    assert desk.store.find("1", "a").state == "failed"
    async with working(desk, settings):
        await until(lambda: list(desk.files.folder("1").iterdir()) == [desk.files.errors_of(job)])


async def test_job_whose_worker_was_lost_at_its_end_keeps_its_result_alone(
    desk: JobDesk, settings: Settings
) -> None:
    job = queue(desk)
    desk.files.result_of(job).write_text("result")
    desk.store.claim()
    desk.store.finish("1", Progress(1, 0, 1))
    async with working(desk, settings):
        await until(lambda: list(desk.files.folder("1").iterdir()) == [desk.files.result_of(job)])


async def test_job_waits_for_its_disk_however_long_that_takes(
    desk: JobDesk, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    runners = FakeRunners(forecaster("monthly", 1, make_card()))
    job = queue(desk, runners)
    staged = desk.files.folder("1") / f".{desk.files.result_of(job).name}.writing"
    staged.symlink_to("/dev/full")
    async with working(desk, settings, runners):
        await until(lambda: caplog.text.count("jobs wait") >= NUM_PAUSES)
        assert desk.store.find("1", "a").state == "running"
        staged.unlink()
        await until(lambda: desk.store.find("1", "a").state == "succeeded")
