"""One job on a disk that is full: it waits, where anything else that is wrong ends it."""

import errno
import tempfile
from pathlib import Path

import pytest
from typing_extensions import override

from app.errors import StorageError
from app.gateway.runners import Inference
from app.jobs.desk import JobDesk
from app.jobs.execution import JobExecution
from app.jobs.job import Job, JobOptions, NewJob
from app.settings import Settings, load_settings
from app.tensors import Tensors
from tests.fakes import FakeRunners, forecaster, make_card
from tests.full_disk import full_disk

NUM_SERIES = 1000
FILE = "item_id,timestamp,target\n" + "".join(f"{i},2024-01-01,{i}\n" for i in range(NUM_SERIES))
FULL_BYTES = 2**15


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(jobs_directory=tmp_path / "jobs")


@pytest.fixture
def desk(settings: Settings) -> JobDesk:
    desk = JobDesk.open(settings)
    assert desk is not None
    return desk


@pytest.fixture
def runners() -> FakeRunners:
    return FakeRunners(forecaster("monthly", 1, make_card()))


def begin(desk: JobDesk, runners: FakeRunners, text: str = FILE) -> Job:
    """Queue a job and claim it."""
    options = JobOptions(
        model_name="monthly",
        model_version=1,
        model_digest=runners.versions[0].digest,
        file_format="csv",
        output_format="csv",
        freq="M",
    )
    incoming = desk.files.receive("1", options)
    incoming.write(text.encode())
    incoming.close()
    desk.store.add(NewJob(job_id="1", owner="a", options=options, fingerprint="f"))
    job = desk.store.claim()
    assert job is not None
    return job


class BrokenDisk(FakeRunners):
    """Breaks what the run keeps, as soon as it infers something."""

    def __init__(self, error: Exception) -> None:
        super().__init__(forecaster("monthly", 1, make_card()))
        self._error = error

    @override
    async def infer(self, inference: Inference) -> Tensors:
        raise self._error


async def test_job_goes_on_when_its_disk_has_room_again(
    desk: JobDesk, runners: FakeRunners, settings: Settings
) -> None:
    execution = JobExecution(begin(desk, runners), desk, runners, settings)
    with full_disk(FULL_BYTES), pytest.raises(StorageError, match=r"run/journal\.sqlite"):
        await execution.run()
    waiting = desk.store.find("1", "a")
    assert (waiting.state, waiting.error) == ("running", "")
    await execution.run()
    done = desk.store.find("1", "a")
    assert (done.state, done.progress.num_done) == ("succeeded", NUM_SERIES)
    assert len(desk.files.result_of(done).read_text().splitlines()) == 1 + 12 * NUM_SERIES


async def test_result_that_finds_no_room_is_written_later(
    desk: JobDesk, runners: FakeRunners, settings: Settings
) -> None:
    job = begin(desk, runners)
    staged = desk.files.folder("1") / f".{desk.files.result_of(job).name}.writing"
    staged.symlink_to("/dev/full")
    execution = JobExecution(job, desk, runners, settings)
    with pytest.raises(StorageError, match="No space left"):
        await execution.run()
    num_inferred = len(runners.inferences)
    staged.unlink()
    await execution.run()
    assert desk.store.find("1", "a").state == "succeeded"
    assert len(runners.inferences) == num_inferred


async def test_job_without_room_for_its_rows_waits(
    desk: JobDesk,
    runners: FakeRunners,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    rows = [f"{item},{step},1\n" for step in range(3) for item in range(400_000)]
    job = begin(desk, runners, "item_id,timestamp,target\n" + "".join(rows))
    with pytest.raises(StorageError, match="rows of the file"):
        await JobExecution(job, desk, runners, settings).run()
    assert desk.store.find("1", "a").state == "running"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
async def test_trouble_of_the_disk_is_no_fault_of_the_job(
    desk: JobDesk, settings: Settings, number: int
) -> None:
    runners = BrokenDisk(OSError(number, "the disk", "/data/jobs/1/x"))
    with pytest.raises(StorageError):
        await JobExecution(begin(desk, runners), desk, runners, settings).run()


@pytest.mark.parametrize(
    "error", [TimeoutError("no disk"), ConnectionResetError(errno.ECONNRESET, "no disk")]
)
async def test_other_trouble_ends_the_job(
    desk: JobDesk, settings: Settings, error: Exception
) -> None:
    runners = BrokenDisk(error)
    await JobExecution(begin(desk, runners), desk, runners, settings).run()
    job = desk.store.find("1", "a")
    assert (job.state, "inside the service" in job.error) == ("failed", True)


async def test_owner_is_told_of_no_path(
    desk: JobDesk, runners: FakeRunners, settings: Settings
) -> None:
    job = begin(desk, runners)
    desk.files.input_of("1", job.options).unlink()
    await JobExecution(job, desk, runners, settings).run()
    failed = desk.store.find("1", "a")
    assert (failed.state, failed.error) == (
        "failed",
        "can not read input.csv: No such file or directory",
    )


async def test_broken_journal_ends_the_job(
    desk: JobDesk, runners: FakeRunners, settings: Settings
) -> None:
    job = begin(desk, runners)
    desk.files.run_of(job).mkdir()
    (desk.files.run_of(job) / "journal.sqlite").write_bytes(b"something else entirely" * 100)
    await JobExecution(job, desk, runners, settings).run()
    failed = desk.store.find("1", "a")
    assert failed.error == "run/journal.sqlite: file is not a database"
    assert not desk.files.run_of(job).exists()
