"""The size of runs, found from how long runs take; the times are made up."""

from collections.abc import Callable

import pytest

from app.runner.batch_size import BatchSizer

STEPS = 100


def learn(sizer: BatchSizer, seconds_of: Callable[[int], float], num_runs: int = 30) -> list[int]:
    """Run full batches, as while many rows wait, and return their sizes."""
    sizes = []
    for _ in range(num_runs):
        rows = sizer.size
        sizes.append(rows)
        sizer.record(rows, rows * STEPS, seconds_of(rows))
    return sizes


def test_every_size_is_tried_before_one_is_chosen() -> None:
    assert learn(BatchSizer(16), lambda _: 1.0)[:21] == [16] * 7 + [4] * 7 + [8] * 7


@pytest.mark.parametrize(
    ("seconds_of", "size"),
    [
        (lambda _: 1.0, 16),
        (float, 4),
        (lambda rows: max(8.0, rows), 8),
        (lambda rows: 1 + rows / 100, 16),
        (lambda rows: 0.1 + rows, 4),
        (lambda rows: rows**2, 4),
    ],
    ids=["rows are free", "rows add up", "free up to 8", "nearly free", "nearly add up", "slower"],
)
def test_smallest_size_that_is_about_as_fast_as_any_is_kept(
    seconds_of: Callable[[int], float], size: int
) -> None:
    sizer = BatchSizer(16)
    learn(sizer, seconds_of)
    assert sizer.size == size


def test_one_slow_run_decides_nothing() -> None:
    sizer = BatchSizer(16)
    durations = iter([1.0, 90.0, *[1.0] * 5])
    learn(sizer, lambda rows: next(durations) if rows == 4 else 1.0)
    assert sizer.size == 16


@pytest.mark.parametrize("most", [1, 3, 4, 6, 100])
def test_largest_size_is_tried_and_never_exceeded(most: int) -> None:
    sizer = BatchSizer(most)
    assert max(learn(sizer, lambda _: 1.0, num_runs=80)) == most
    assert sizer.size == most


def test_small_batches_of_a_light_load_change_nothing() -> None:
    sizer = BatchSizer(16)
    for _ in range(9):
        sizer.record(1, STEPS, 1.0)
    assert sizer.size == 16


def test_rows_that_never_fill_a_size_leave_the_largest() -> None:
    sizer = BatchSizer(16)
    for _ in range(30):  # requests of five rows: three of them fit, or else one alone
        rows = max(5, sizer.size // 5 * 5)
        sizer.record(rows, rows * STEPS, float(rows))
    assert sizer.size == 16


def test_after_many_runs_it_looks_again() -> None:
    sizer = BatchSizer(16)
    learn(sizer, float, num_runs=2000)
    assert sizer.size == 4
    learn(sizer, lambda _: 1.0)
    assert sizer.size == 16
