"""What keeps a folder of jobs in order: one worker, and no file without a job."""

import asyncio
import os
from pathlib import Path

import pytest

from app.errors import StartupError
from app.jobs.desk import JobDesk
from app.jobs.worker import Worker, lock_of
from app.settings import load_settings
from tests.fakes import FakeRunners
from tests.waiting import until


def test_folder_has_one_worker(tmp_path: Path) -> None:
    with lock_of(tmp_path):
        second = lock_of(tmp_path, timeout_s=0)
        with pytest.raises(StartupError, match="another service"):
            second.__enter__()
    with lock_of(tmp_path, timeout_s=0):
        pass


async def test_files_that_a_lost_gateway_left_are_removed_after_a_day(tmp_path: Path) -> None:
    settings = load_settings(jobs_directory=tmp_path)
    desk = JobDesk.open(settings)
    assert desk is not None
    left, arriving = tmp_path / "left", tmp_path / "arriving"
    for folder in (left, arriving):
        folder.mkdir()
        (folder / "input.csv").write_text("target\n1\n")
    os.utime(left, (0, 0))
    work = asyncio.create_task(Worker(desk, FakeRunners(), settings).work())
    await until(lambda: not left.exists())
    work.cancel()
    await asyncio.wait([work])
    assert arriving.exists()
