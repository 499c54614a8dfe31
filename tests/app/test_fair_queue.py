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


def run_next(queue: FairQueue[tuple[str, int]]) -> tuple[str, int]:
    entry = queue.pop()
    queue.advance(entry)
    queue.release(*entry[2])
    return entry[2]


def put(queue: FairQueue[tuple[str, int]], flow: str, work: int) -> None:
    queue.put((flow, work), flow, work)


def filled_with(flow: str, count: int) -> FairQueue[tuple[str, int]]:
    queue = FairQueue[tuple[str, int]]()
    for _ in range(count):
        put(queue, flow, 1)
    return queue


@given(st.integers(1, 50), st.integers(1, 50))
def test_flow_that_asks_one_by_one_gets_no_more_than_one_that_always_waits(
    large: int, small: int
) -> None:
    queue = FairQueue[tuple[str, int]]()
    done = {"one by one": 0, "always waiting": 0}
    put(queue, "one by one", large)
    for _ in range(3):
        put(queue, "always waiting", small)
    for _ in range(200):
        flow, work = run_next(queue)
        done[flow] += work
        assert abs(done["one by one"] - done["always waiting"]) <= large + small
        put(queue, flow, work)


def test_flow_pays_once_for_what_it_had_while_others_waited() -> None:
    queue = filled_with("modest", 4)
    put(queue, "large", 2)
    put(queue, "modest", 1)
    assert [run_next(queue)[0] for _ in range(2)] == ["modest", "large"]
    for _ in range(4):
        run_next(queue)
    put(queue, "large", 1)
    put(queue, "modest", 1)
    assert run_next(queue)[0] == "large"


def test_work_that_is_not_done_is_not_charged() -> None:
    queue = filled_with("other", 9)
    put(queue, "impatient", 5)
    put(queue, "impatient", 5)
    entries = sorted(queue.pop() for _ in range(len(queue)))
    queue.put_back(entry for entry in entries if entry[2][0] == "other")
    for _ in range(2):
        queue.refund("impatient", 5)
        queue.release("impatient", 5)
    assert run_next(queue)[0] == "other"
    put(queue, "impatient", 5)
    assert [run_next(queue)[0] for _ in range(2)] == ["impatient", "other"]


def test_refund_changes_no_order_within_a_flow() -> None:
    queue = FairQueue[str]()
    for item in ("gone", "first", "second"):
        queue.put(item, "flow", 5)
    queue.refund("flow", 5)
    queue.put("third", "flow", 5)
    assert taken(queue) == ["gone", "first", "second", "third"]


def test_many_flows_that_have_gone_leave_the_order_as_it_is() -> None:
    queue = filled_with("other", 3)
    put(queue, "large", 100)
    run_next(queue)
    run_next(queue)
    for number in range(200):
        put(queue, f"once {number}", 1)
        put(queue, "other", 1)
    put(queue, "large", 1)
    order = [run_next(queue)[0] for _ in range(len(queue))]
    assert order.index("large") > 200


def test_what_waits_before_new_work_is_what_starts_before_it() -> None:
    queue = FairQueue[str]()
    for number in range(30):
        queue.put(f"small {number}", "small", 1)
    assert queue.before("large", 10) == 10
    queue.put("large", "large", 20)
    assert queue.before("large", 10) == 20 + 30
    entry = queue.pop()
    queue.advance(entry)
    queue.release("small", 1)
    large = queue.pop()
    queue.advance(large)
    queue.release("large", 20)
    assert queue.before("large", 5) == 20 + 5 - 1
    assert queue.before("new", 5) == 5 - 1


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
