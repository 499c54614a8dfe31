"""Turns of flows, and what waits before them."""

from hypothesis import given
from hypothesis import strategies as st

from app.runner.fair_queue import FairQueue
from app.turns import WaitingWork


def taken(queue: FairQueue[str]) -> list[str]:
    items = []
    while len(queue):
        entry = queue.pop()
        queue.advance(entry)
        items.append(entry[2])
    return items


def test_one_flow_is_first_in_first_out() -> None:
    queue = FairQueue[str]()
    for item, work in (("a", 9), ("b", 1), ("c", 5)):
        queue.put(item, "flow", work)
    assert taken(queue) == ["a", "b", "c"]


def test_flows_take_turns() -> None:
    queue = FairQueue[str]()
    for number in range(3):
        queue.put(f"flood {number}", "flood", 1)
    queue.put("modest 0", "modest", 1)
    queue.put("modest 1", "modest", 1)
    assert taken(queue) == ["flood 0", "modest 0", "flood 1", "modest 1", "flood 2"]


def test_turns_are_by_work_and_not_by_count() -> None:
    queue = FairQueue[str]()
    for number in range(2):
        queue.put(f"large {number}", "large", 4)
    for number in range(5):
        queue.put(f"small {number}", "small", 1)
    assert taken(queue) == ["large 0", *(f"small {n}" for n in range(4)), "large 1", "small 4"]


def test_flow_that_was_away_gets_its_turn_and_no_more() -> None:
    queue = FairQueue[str]()
    for number in range(4):
        queue.put(f"flood {number}", "flood", 1)
    for _ in range(2):
        queue.advance(queue.pop())
    for number in range(2):
        queue.put(f"new {number}", "new", 1)
    assert taken(queue) == ["new 0", "flood 2", "new 1", "flood 3"]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 5)), max_size=12),
    st.integers(0, 12),
)
def test_what_is_put_back_keeps_its_place(puts: list[tuple[str, int]], count: int) -> None:
    queues = FairQueue[str](), FairQueue[str]()
    for queue in queues:
        for number, (flow, work) in enumerate(puts):
            queue.put(f"{flow}{number}", flow, work)
    queues[0].put_back([queues[0].pop() for _ in range(min(count, len(puts)))])
    assert taken(queues[0]) == taken(queues[1])


def test_own_work_and_as_much_of_others_comes_before_new_work() -> None:
    work = WaitingWork()
    work.add("flood", 1000)
    work.add("modest", 10)
    assert work.before("modest", 5) == 10 + 15
    assert work.before("flood", 5) == 1000 + 10
    assert work.before("new", 5) == 5 + 5


def test_work_that_was_removed_counts_no_more() -> None:
    work = WaitingWork()
    work.add("a", 3)
    work.add("a", 4)
    assert not work.remove("a", 3)
    assert work.remove("a", 4)
    assert work.steps == {}
