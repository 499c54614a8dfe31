"""The journal of jobs: who sees what, what is run next, and what is told of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.errors import (
    IdempotencyKeyReusedError,
    JobNotFoundError,
    StartupError,
    TooManyJobsError,
)
from app.jobs.job import Job, JobOptions, NewJob, Progress
from app.jobs.store import JobStore
from tests.fakes import ManualClock

OPTIONS = JobOptions(
    model_name="monthly",
    model_version=1,
    model_digest="0",
    file_format="csv",
    output_format="parquet",
    quantile_levels=(0.1, 0.5),
)
NEW = NewJob(job_id="1", owner="a", options=OPTIONS, fingerprint="f")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(tmp_path: Path, clock: ManualClock) -> JobStore:
    return JobStore(tmp_path / "jobs", max_unfinished=3, clock=clock)


def add(store: JobStore, job_id: str, owner: str = "a", **changes: Any) -> Job:
    return store.add(replace(NEW, job_id=job_id, owner=owner, **changes))


def claim(store: JobStore) -> str:
    job = store.claim()
    return "" if job is None else job.job_id


def test_job_comes_back_as_it_was_made(store: JobStore) -> None:
    job = add(store, "1")
    assert (job.state, job.options, job.progress) == ("queued", OPTIONS, Progress())
    assert store.find("1", "a") == job


def test_journal_outlives_its_process(store: JobStore, tmp_path: Path) -> None:
    job = add(store, "1")
    assert JobStore(tmp_path / "jobs", max_unfinished=3).find("1", "a") == job


def test_owner_sees_no_job_of_another_one(store: JobStore) -> None:
    add(store, "1", "a")
    assert store.find_all("b", limit=9) == []
    for act in (store.find, store.cancel, store.delete):
        with pytest.raises(JobNotFoundError):
            act("1", "b")
    assert store.find("1", "a").state == "queued"


def test_newest_jobs_are_listed_first_and_page_by_page(store: JobStore) -> None:
    for job_id in "123":
        add(store, job_id)
    assert [job.job_id for job in store.find_all("a", limit=2)] == ["3", "2"]
    assert [job.job_id for job in store.find_all("a", limit=2, before="2")] == ["1"]


def test_repeated_key_gives_the_same_job(store: JobStore) -> None:
    first = add(store, "1", idempotency_key="k")
    assert add(store, "2", idempotency_key="k") == first
    assert len(store.find_all("a", limit=9)) == 1


def test_key_of_another_owner_is_another_key(store: JobStore) -> None:
    add(store, "1", "a", idempotency_key="k")
    assert add(store, "2", "b", idempotency_key="k").job_id == "2"


def test_repeated_key_for_something_else_is_refused(store: JobStore) -> None:
    add(store, "1", idempotency_key="k")
    with pytest.raises(IdempotencyKeyReusedError):
        add(store, "2", idempotency_key="k", fingerprint="other")


def test_owner_may_have_so_many_unfinished_jobs(store: JobStore) -> None:
    for job_id in "123":
        add(store, job_id)
    with pytest.raises(TooManyJobsError):
        add(store, "4")
    with pytest.raises(TooManyJobsError):
        store.check_room("a", None)
    add(store, "5", "b")
    store.cancel("1", "a")
    add(store, "4")


def test_full_owner_may_still_repeat_a_request(store: JobStore) -> None:
    for job_id in "123":
        add(store, job_id, idempotency_key=job_id)
    store.check_room("a", "2")
    assert add(store, "4", idempotency_key="2").job_id == "2"


def test_owners_take_turns(store: JobStore, clock: ManualClock) -> None:
    for job_id, owner in (("1", "a"), ("2", "a"), ("3", "b"), ("4", "b")):
        add(store, job_id, owner)
    order = []
    while job_id := claim(store):
        order.append(job_id)
        clock.now += 1
        store.finish(job_id, Progress())
    assert order == ["1", "3", "2", "4"]


def test_job_of_a_lost_worker_is_gone_on_with_first(store: JobStore, clock: ManualClock) -> None:
    add(store, "1")
    add(store, "2", "b")
    assert claim(store) == "1"
    clock.now += 5
    lost = store.claim()
    assert lost is not None
    assert (lost.job_id, lost.started_at) == ("1", 0.0)


def test_job_that_takes_its_worker_along_fails_at_last(store: JobStore) -> None:
    add(store, "1")
    starts = 0
    while claim(store):
        starts += 1
    job = store.find("1", "a")
    assert (starts, job.state) == (10, "failed")
    assert "begun 10 times" in job.error


def test_job_that_its_worker_put_off_never_fails_for_that(store: JobStore) -> None:
    add(store, "1")
    put_off = claim(store)
    for _ in range(30):
        job = store.claim(put_off)
        assert job is not None
        assert job.job_id == put_off
    assert claim(store) == "1"


def test_job_put_off_at_its_last_start_goes_on(store: JobStore) -> None:
    add(store, "1")
    for _ in range(10):
        claim(store)
    again = store.claim("1")
    assert again is not None
    assert again.state == "running"
    assert claim(store) == ""


def test_ended_jobs_are_told_with_their_states(store: JobStore) -> None:
    for job_id in "123":
        add(store, job_id)
    store.cancel("1", "a")
    claim(store)
    store.finish("2", Progress())
    assert store.ended_states() == {"1": "cancelled", "2": "succeeded"}
    store.delete("1", "a")
    assert store.ended_states() == {"2": "succeeded"}


def test_progress_forgives_lost_workers(store: JobStore) -> None:
    add(store, "1")
    for num_done in range(1, 30):
        assert claim(store) == "1"
        assert store.record_progress("1", Progress(num_done, 0, 99))
    assert store.find("1", "a").progress == Progress(29, 0, 99)


def test_cancelled_job_is_wanted_no_more(store: JobStore) -> None:
    add(store, "1")
    claim(store)
    assert store.cancel("1", "a").state == "cancelled"
    assert not store.record_progress("1", Progress(1, 0, 2))
    assert not store.finish("1", Progress(2, 0, 2))
    assert store.find("1", "a").state == "cancelled"


def test_finished_job_stays_as_it_is(store: JobStore) -> None:
    add(store, "1")
    claim(store)
    assert store.finish("1", Progress(2, 1, 2), error="no disk")
    job = store.cancel("1", "a")
    assert (job.state, job.error, job.progress.num_refused) == ("failed", "no disk", 1)


def test_deleted_job_is_hidden_until_its_files_are_gone(store: JobStore) -> None:
    add(store, "1", idempotency_key="k")
    claim(store)
    store.delete("1", "a")
    assert store.find_all("a", limit=9) == []
    assert not store.record_progress("1", Progress())
    assert store.hidden_ids() == ["1"]
    store.forget("1")
    assert store.known_ids() == set()
    assert add(store, "2", idempotency_key="k").job_id == "2"


def test_old_jobs_are_hidden_and_unfinished_ones_never(store: JobStore, clock: ManualClock) -> None:
    for job_id in "12":
        add(store, job_id)
    claim(store)
    store.finish("1", Progress())
    clock.now = 100
    store.hide_older(99)
    assert store.hidden_ids() == ["1"]


def test_webhook_is_due_once_its_job_is_finished(store: JobStore, clock: ManualClock) -> None:
    add(store, "1", webhook_url="https://example.com")
    claim(store)
    assert store.next_webhook() is None
    store.finish("1", Progress())
    due = store.next_webhook()
    assert due is not None
    store.record_webhook("1", "pending", retry_after_s=60)
    assert store.next_webhook() is None
    clock.now += 60
    assert store.next_webhook() is not None
    store.record_webhook("1", "delivered")
    assert store.next_webhook() is None
    assert store.find("1", "a").webhook_attempts == 2


def test_folder_that_can_not_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "jobs").write_text("no folder")
    with pytest.raises(StartupError, match="GATECAST_JOBS_DIRECTORY"):
        JobStore(tmp_path / "jobs", max_unfinished=1)
