"""Admission and the choice of the next batch, without an event loop."""

from collections.abc import Hashable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import GatecastError, OverloadedError
from app.interface import Extent
from app.runner.queue import BatchLimits, PendingRequest, RequestQueue, Terms
from app.tensors import Tensors
from app.wire import BACKGROUND_PRIORITY

LIMITS = BatchLimits(
    max_batch_size=8,
    max_batch_steps=1000,
    max_run_s=0.5,
    max_padding_share=0.25,
    max_queue_steps=3000,
    max_queue_delay_s=0.0,
)
TERMS = Terms(queued_at=0.0, deadline=10.0)
BACKGROUND = replace(TERMS, priority=BACKGROUND_PRIORITY)


def request(
    length: int,
    rows: int = 1,
    terms: Terms = TERMS,
    answers: list[Tensors | GatecastError] | None = None,
    group: Hashable = "without state",
) -> PendingRequest:
    return PendingRequest(
        {},
        ["quantiles"],
        Extent(rows, length, rows * length, group),
        terms,
        answer=(answers if answers is not None else []).append,
    )


def filled(*lengths: int) -> RequestQueue:
    queue = RequestQueue(LIMITS)
    for length in lengths:
        queue.put(request(length))
    return queue


def take(queue: RequestQueue, now: float = 0.0) -> list[int]:
    return [taken.extent.length for taken in queue.take(now)[0]]


def test_requests_of_like_length_share_a_batch() -> None:
    assert take(filled(100, 101, 99)) == [100, 101, 99]


def test_unlike_lengths_do_not_share_a_batch() -> None:
    queue = filled(100, 10, 100, 10)
    assert take(queue) == [100, 100]
    assert take(queue) == [10, 10]


def test_long_queue_of_many_lengths_is_run_nearly_without_padding() -> None:
    queue = filled(*[100, 80, 50, 30] * 8)
    while len(queue):
        lengths = take(queue)
        padded = len(lengths) * max(lengths)
        assert padded - sum(lengths) <= 0.05 * padded or 2 * len(lengths) <= LIMITS.max_batch_size


def test_run_is_filled_with_what_is_less_like_up_to_half_of_its_rows() -> None:
    queue = filled(100, 80, 80, 100, 80, 80)
    assert take(queue) == [100, 100, 80, 80]


def test_no_padding_can_be_asked_for() -> None:
    queue = RequestQueue(replace(LIMITS, max_padding_share=0.0))
    for length in (100, 99, 100):
        queue.put(request(length))
    assert take(queue) == [100, 100]


def test_other_caller_of_another_length_begins_the_next_run() -> None:
    queue = RequestQueue(LIMITS)
    for _ in range(20):
        queue.put(request(100, terms=replace(TERMS, flow="flood")))
    queue.put(request(80, terms=replace(TERMS, flow="modest")))
    assert take(queue) == [100] * 8
    assert take(queue)[0] == 80


def test_caller_of_large_requests_one_by_one_holds_up_no_other() -> None:
    queue = RequestQueue(LIMITS)
    large, small = replace(TERMS, flow="large"), replace(TERMS, flow="small")
    queue.put(request(80, rows=8, terms=large))
    for _ in range(80):
        queue.put(request(10, terms=small))
    assert take(queue) == [80]
    queue.put(request(80, rows=8, terms=large))
    assert [take(queue) for _ in range(9)] == [[10] * 8] * 9
    assert take(queue) == [80]


def test_caller_that_leaves_is_not_charged_for_what_was_not_run() -> None:
    queue = RequestQueue(replace(LIMITS, max_batch_size=1))
    impatient = replace(TERMS, flow="impatient")
    for _ in range(9):
        queue.put(request(10))
    gone = request(500, terms=impatient)
    queue.put(gone)
    queue.abandon(gone)
    queue.put(request(20, terms=impatient))
    assert [take(queue) for _ in range(2)] == [[10], [20]]


def test_oldest_is_always_in_the_next_batch() -> None:
    queue = filled(10, 500, 10, 500)
    assert take(queue)[0] == 10
    assert take(queue)[0] == 500


def test_batch_keeps_its_row_limit() -> None:
    assert len(take(filled(*[10] * 20))) == LIMITS.max_batch_size


def test_batch_keeps_its_budget_of_padded_steps() -> None:
    assert take(filled(400, 400, 400)) == [400, 400]


def test_request_over_the_budget_runs_alone() -> None:
    queue = filled(1500, 1500)
    assert take(queue) == [1500]


def test_slow_model_gets_smaller_batches() -> None:
    queue = filled(100, 100, 100, 100)
    queue.record_run(steps=500, seconds=1.0)
    assert take(queue) == [100, 100]


def test_rows_of_one_request_stay_together() -> None:
    queue = RequestQueue(LIMITS)
    queue.put(request(10, rows=5))
    queue.put(request(10, rows=4))
    queue.put(request(10, rows=3))
    assert [taken.extent.rows for taken in queue.take(0.0)[0]] == [5, 3]


def test_requests_of_different_groups_do_not_share_a_batch() -> None:
    queue = filled(10)
    queue.put(request(10, group="with state"))
    queue.put(request(10))
    assert [take(queue), take(queue)] == [[10, 10], [10]]


def test_requests_without_a_group_run_alone() -> None:
    queue = RequestQueue(LIMITS)
    queue.put(request(10, group=None))
    queue.put(request(10, group=None))
    assert [take(queue), take(queue)] == [[10], [10]]


def test_background_waits_until_nothing_else_does() -> None:
    queue = RequestQueue(LIMITS)
    queue.put(request(20, terms=BACKGROUND, group=None))
    for _ in range(9):  # more than the runs after which the oldest request is next
        queue.put(request(10, terms=replace(TERMS, queued_at=5.0)))
        assert take(queue) == [10]
    assert take(queue) == [20]


def test_change_of_limits_keeps_what_waits_in_the_background() -> None:
    queue = RequestQueue(LIMITS)
    queue.put(request(20, terms=BACKGROUND, group=None))
    queue.change_limits(replace(LIMITS, priority_levels=3))
    assert take(queue) == [20]


def test_full_queue_is_refused_with_a_time_to_retry() -> None:
    queue = filled(1500, 1500)
    with pytest.raises(OverloadedError) as caught:
        queue.put(request(1))
    assert caught.value.retry_after_s >= 1


def test_taken_work_makes_room() -> None:
    queue = filled(1500, 1500)
    take(queue)
    queue.put(request(1500))
    assert queue.steps == 3000


def test_expired_request_is_taken_apart() -> None:
    queue = RequestQueue(LIMITS)
    late = request(10, terms=Terms(0.0, deadline=1.0))
    queue.put(late)
    assert queue.take(2.0) == ([], [late])


def test_abandoned_request_frees_its_place_at_once() -> None:
    queue = RequestQueue(LIMITS)
    gone = request(10)
    queue.put(gone)
    queue.abandon(gone)
    assert queue.steps == 0
    assert queue.take(0.0)[0] == []


def test_request_over_the_bound_is_let_in_where_only_abandoned_ones_are_left() -> None:
    queue = RequestQueue(LIMITS)
    gone = request(10)
    queue.put(gone)
    queue.abandon(gone)
    queue.put(request(LIMITS.max_queue_steps + 1))
    assert take(queue) == [LIMITS.max_queue_steps + 1]


def test_request_is_answered_once() -> None:
    answers: list[Tensors | GatecastError] = []
    pending = request(10, answers=answers)
    pending.answer({})
    pending.answer(GatecastError("late"))
    assert answers == [{}]


def urgent(priority: int, queued_at: float, length: int = 10) -> PendingRequest:
    return request(length, terms=Terms(queued_at, 1e9, priority))


def levelled(*requests: PendingRequest) -> RequestQueue:
    queue = RequestQueue(replace(LIMITS, priority_levels=3, max_batch_size=1))
    for one in requests:
        queue.put(one)
    return queue


def test_higher_priority_goes_first() -> None:
    requests = [urgent(priority, at) for at, priority in enumerate([3, 2, 1, 2])]
    queue = levelled(*requests)
    taken = [queue.take(0.0)[0][0] for _ in range(3)]
    assert taken == [requests[2], requests[1], requests[3]]


@pytest.mark.parametrize("priority", [0, 4, 2**64 - 1])
def test_priority_that_is_no_level_means_the_middle(priority: int) -> None:
    low, unknown, high = urgent(3, 0), urgent(priority, 1), urgent(1, 2)
    queue = levelled(low, unknown, high)
    assert [queue.take(0.0)[0][0] for _ in range(3)] == [high, unknown, low]


def test_lowest_priority_is_never_starved() -> None:
    low = urgent(3, 0)
    queue = levelled(low)
    taken: list[PendingRequest] = []
    while low not in taken:
        assert len(taken) < 4
        queue.put(urgent(1, len(taken) + 1))
        taken += queue.take(0.0)[0]
    assert taken[-1] is low


def test_lower_priorities_fill_what_a_batch_has_left() -> None:
    queue = RequestQueue(replace(LIMITS, priority_levels=3))
    queue.put(urgent(3, 0, length=10))
    queue.put(urgent(1, 1, length=11))
    assert take(queue) == [11, 10]


@given(st.lists(st.tuples(st.integers(1, 600), st.integers(1, 8)), max_size=40))
def test_every_request_comes_out_once_within_the_limits(sizes: list[tuple[int, int]]) -> None:
    queue = RequestQueue(BatchLimits(8, 1000, 0.5, 0.25, 10**9, 0.0))
    waiting = [request(length, rows) for length, rows in sizes]
    for pending in waiting:
        queue.put(pending)
    taken: list[PendingRequest] = []
    while len(queue):
        batch, _ = queue.take(0.0)
        rows, longest = sum(p.extent.rows for p in batch), max(p.extent.length for p in batch)
        real = sum(p.extent.real_steps for p in batch)
        padded = rows * longest
        assert len(batch) == 1 or (rows <= 8 and padded <= 1000 and real >= 0.75 * padded)
        taken += batch
    assert sorted(map(id, taken)) == sorted(map(id, waiting))
    assert queue.steps == 0


def waiting_s(seconds: float, flow: str = "", priority: int = 0) -> PendingRequest:
    """A request of so much work, at the 100 steps a second of ``slow_queue``."""
    return request(round(100 * seconds), terms=replace(TERMS, flow=flow, priority=priority))


def slow_queue(max_wait_s: float = 2.0) -> RequestQueue:
    limits = replace(LIMITS, priority_levels=3, max_queue_wait_s=max_wait_s)
    queue = RequestQueue(limits)
    queue.record_drain(rows=1, steps=100, seconds=1.0)
    return queue


def test_request_that_would_wait_too_long_is_refused() -> None:
    queue = slow_queue()
    queue.put(waiting_s(1.0))
    queue.put(waiting_s(1.0))
    queue.put(waiting_s(1.0))
    with pytest.raises(OverloadedError) as refusal:
        queue.put(waiting_s(1.0))
    assert refusal.value.retry_after_s == 3
    assert refusal.value.pause_s == pytest.approx(1.5)  # until a quarter of the two seconds is free


def test_request_over_the_longest_wait_by_itself_is_let_in_alone() -> None:
    slow_queue().put(waiting_s(9.0))


def test_nothing_is_refused_before_the_speed_is_known() -> None:
    queue = RequestQueue(replace(LIMITS, max_queue_wait_s=0.001))
    for _ in range(9):
        queue.put(waiting_s(1.0))


def test_flood_of_one_caller_does_not_refuse_another() -> None:
    queue = slow_queue()
    for _ in range(3):
        queue.put(waiting_s(1.0, "flood"))
    with pytest.raises(OverloadedError):
        queue.put(waiting_s(1.0, "flood"))
    queue.put(waiting_s(0.5, "modest"))
    queue.put(waiting_s(0.5, "modest"))
    assert take(queue) == [100, 100, 100, 50]


def test_small_requests_get_between_the_parts_of_a_large_one() -> None:
    queue = RequestQueue(LIMITS)
    for _ in range(4):
        queue.put(request(10, rows=8, terms=replace(TERMS, flow="a large")))
    queue.put(request(10, terms=replace(TERMS, flow="a")))
    queue.put(request(10, terms=replace(TERMS, flow="a")))
    sizes = [[taken.extent.rows for taken in queue.take(0.0)[0]] for _ in range(3)]
    assert sizes == [[8], [1, 1], [8]]


def test_part_of_a_request_that_has_begun_is_let_in() -> None:
    queue = slow_queue()
    for _ in range(3):
        queue.put(waiting_s(1.0))
    queue.put(request(100, terms=replace(TERMS, is_begun=True)))


def test_work_of_lower_priority_refuses_nobody() -> None:
    queue = slow_queue()
    for _ in range(3):
        queue.put(waiting_s(1.0, priority=2))
    queue.put(waiting_s(1.0, priority=1))
    with pytest.raises(OverloadedError):
        queue.put(waiting_s(0.1, priority=3))


def test_background_work_refuses_nobody_and_is_not_refused() -> None:
    queue = slow_queue(max_wait_s=0.5)
    for _ in range(5):
        queue.put(request(100, terms=BACKGROUND, group=None))
    queue.put(waiting_s(1.0))
    queue.put(request(100, terms=BACKGROUND, group=None))


def test_request_whose_deadline_would_pass_is_refused_at_once() -> None:
    queue = slow_queue()
    queue.put(waiting_s(1.5))
    with pytest.raises(OverloadedError, match="deadline") as refusal:
        queue.put(request(10, terms=replace(TERMS, deadline=1.0)))
    assert refusal.value.pause_s == 0


def test_work_that_was_abandoned_makes_room() -> None:
    queue = slow_queue()
    requests = [waiting_s(1.0) for _ in range(3)]
    for one in requests:
        queue.put(one)
    queue.abandon(requests[0])
    queue.change_limits(replace(LIMITS, max_queue_wait_s=2.0))
    queue.put(waiting_s(1.0))


def test_queue_that_was_emptied_takes_work_again() -> None:
    queue = slow_queue()
    for _ in range(3):
        queue.put(waiting_s(1.0))
    while queue.take(0.0)[0]:
        pass
    queue.put(waiting_s(1.0))


def test_run_is_no_larger_than_what_the_machine_gains_by() -> None:
    queue = RequestQueue(replace(LIMITS, is_size_fitted=True))
    for rows in [8] * 7 + [4] * 7:
        queue.record_drain(rows, steps=100 * rows, seconds=float(rows))
    for _ in range(6):
        queue.put(request(10))
    assert queue.max_batch_size == 4
    assert len(take(queue)) == 4


def test_size_that_was_configured_is_kept() -> None:
    queue = RequestQueue(LIMITS)
    for rows in [8] * 7 + [4] * 7:
        queue.record_drain(rows, steps=100 * rows, seconds=float(rows))
    assert queue.max_batch_size == LIMITS.max_batch_size
