"""Counts that outlive a runner and the versions that it serves."""

from pathlib import Path

import pytest

from app.runner.batcher import DynamicBatcher
from app.runner.ledger import Ledger
from app.runner.queue import BatchLimits
from app.statistics import RunTimes, VersionStatistics, load_statistics
from tests.fake_engine import FakeEngine

LIMITS = BatchLimits(8, 4096, 0.5, 0.25, 100_000, 0.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runner-0.counts"


def batcher(ledger: Ledger, version: int = 1) -> DynamicBatcher:
    made = DynamicBatcher(FakeEngine(), LIMITS, model_name="m", model_version=version)
    made.statistics = ledger.find("m", version)
    return made


def test_next_runner_goes_on_from_what_was_told(path: Path) -> None:
    first = Ledger(path)
    running = batcher(first)
    running.statistics.success.record(0.5, count=3)
    running.statistics.record_failure(0.1, "REJECTED")
    running.statistics.batches[2] = RunTimes()
    running.statistics.batches[2].record((0.1, 0.2, 0.3), count=1)
    (told,) = first.read([running])
    second = Ledger(path)
    assert second.find("m", 1) == told
    (again,) = second.read([batcher(second)])
    assert again == told


def test_what_was_not_told_is_lost_with_the_runner(path: Path) -> None:
    first = Ledger(path)
    running = batcher(first)
    first.read([running])
    running.statistics.success.record(0.5)
    assert Ledger(path).find("m", 1) == VersionStatistics("m", 1)


def test_version_that_comes_back_goes_on_counting(path: Path) -> None:
    ledger = Ledger(path)
    one = batcher(ledger, 1)
    one.statistics.inference_count = 7
    ledger.read([one])
    two = batcher(ledger, 2)
    assert [s.model_version for s in ledger.read([two])] == [2]
    assert batcher(ledger, 1).statistics.inference_count == 7
    assert Ledger(path).find("m", 1).inference_count == 7


def test_version_and_the_one_that_it_replaced_count_once(path: Path) -> None:
    ledger = Ledger(path)
    old, new = batcher(ledger), batcher(ledger)
    old.statistics.inference_count += 2
    new.statistics.inference_count += 3
    (found,) = ledger.read([old, new])
    assert found.inference_count == 5


def test_only_what_is_served_is_told_of_a_lost_runner(path: Path) -> None:
    ledger = Ledger(path)
    one, two = batcher(ledger, 1), batcher(ledger, 2)
    two.statistics.pending_count = 9
    ledger.read([one, two])
    ledger.read([two])
    kept = load_statistics(path)
    assert [(s.model_version, s.pending_count) for s in kept.served] == [(2, 0)]
    assert [s.model_version for s in kept.freed] == [1]


def test_counts_of_freed_versions_are_bounded(path: Path) -> None:
    ledger = Ledger(path)
    for version in range(1, 1001):
        batcher(ledger, version)
    ledger.read([batcher(ledger, 1)])
    kept = load_statistics(path)
    assert [s.model_version for s in kept.freed] == list(range(745, 1001))


def test_file_is_left_alone_while_nothing_changes(path: Path) -> None:
    ledger = Ledger(path)
    running = batcher(ledger)
    ledger.read([running])
    path.unlink()
    ledger.read([running])
    assert not path.exists()
    running.statistics.inference_count += 1
    ledger.read([running])
    assert path.exists()


def test_file_that_can_not_be_written_is_told_of_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "away" / "runner-0.counts"
    ledger = Ledger(path)
    running = batcher(ledger)
    for count in (1, 2):
        running.statistics.inference_count = count
        assert ledger.read([running]) == [running.statistics]
    assert len(caplog.records) == 1
    path.parent.mkdir()
    ledger.read([running])
    assert Ledger(path).find("m", 1).inference_count == 2
    path.unlink()
    path.parent.rmdir()
    running.statistics.inference_count = 3
    ledger.read([running])
    assert len(caplog.records) == 2
