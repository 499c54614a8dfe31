"""Items of several flows, each flow in its order, flows in turn by the work that they ask for.

Start-time fair queueing (Goyal, Vin and Cheng, 1996): an item starts, on a clock that counts work,
where the one before it in its flow ends, and no earlier than what was taken last. The earliest
start is taken first. So a flow that asks for little is not held up by one that asks for much, and
a single flow is first in, first out.

A flow's end counts until the clock has passed it, also while nothing of the flow waits: whoever
sends the next request only after an answer takes no more than those whose requests always wait.
When nothing at all waits, all begin anew.
"""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from app.turns import WaitingWork

Item = TypeVar("Item")

Entry = tuple[float, int, Item]
"""Start, number of arrival, item."""

_FEW_FLOWS = 64
"""Not worth a look for those that the clock has passed."""


@dataclass(slots=True)
class _Tags:
    """Where the last item of a flow starts, and where all of its work ends."""

    start: float
    end: float


class FairQueue(Generic[Item]):
    """See the module; ``work`` is what waits, until it is released."""

    def __init__(self) -> None:
        self.work = WaitingWork()
        self._tags: dict[str, _Tags] = {}
        self._tags_to_sweep = _FEW_FLOWS
        self._entries: list[Entry[Item]] = []
        self._now = 0.0
        self._num_put = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Item]:
        """Go through all items, in no order."""
        return (item for _, _, item in self._entries)

    @property
    def next(self) -> Item:
        """What is taken next; there must be something."""
        return self._entries[0][2]

    def put(self, item: Item, flow: str, work: int) -> None:
        """Add an item."""
        tags = self._tags.get(flow)
        if tags is None:
            tags = self._begin(flow)
        # After a refund the end may lie before items that wait: a flow stays in its order.
        start = tags.start = max(self._now, tags.start, tags.end)
        tags.end = max(self._now, tags.end) + work
        self._num_put += 1
        heapq.heappush(self._entries, (start, self._num_put, item))
        self.work.add(flow, work)

    def before(self, flow: str, work: int) -> float:
        """Estimate the work that is done before new work of ``flow`` can begin.

        That is what waits of the flow, and of every other flow what starts until then.
        """
        waiting, tags = self.work.steps, self._tags
        own = tags.get(flow)
        turn = (self._now if own is None else max(self._now, own.end)) + work
        before: float = waiting.get(flow, 0)
        for name, steps in waiting.items():
            if name != flow:
                earlier = turn - tags[name].end + steps
                if earlier > 0:
                    before += min(earlier, steps)
        return before

    def pop(self) -> Entry[Item]:
        """Take the next item out; it may be put back as if nothing had happened."""
        return heapq.heappop(self._entries)

    def put_back(self, entries: Iterable[Entry[Item]]) -> None:
        """Put items back in their places."""
        for entry in entries:
            heapq.heappush(self._entries, entry)

    def advance(self, entry: Entry[Item]) -> None:
        """Let the clock go on to an item that was taken for good."""
        self._now = max(self._now, entry[0])

    def refund(self, flow: str, work: int) -> None:
        """Do not charge a flow for work that is not done after all."""
        tags = self._tags.get(flow)
        if tags is not None:
            tags.end -= work

    def release(self, flow: str, work: int) -> None:
        """Count work no more, of an item that was taken for good or that nobody waits for."""
        if not self.work.remove(flow, work):
            return
        if not self.work.steps:
            self._tags.clear()
        elif self._tags[flow].end <= self._now:
            del self._tags[flow]
        else:
            self._tags[flow].start = self._now

    def clear(self) -> None:
        """Take all items out; their work must be released."""
        self._entries.clear()

    def _begin(self, flow: str) -> _Tags:
        if len(self._tags) >= self._tags_to_sweep:
            self._tags = {
                name: tags
                for name, tags in self._tags.items()
                if tags.end > self._now or name in self.work.steps
            }
            self._tags_to_sweep = max(_FEW_FLOWS, 2 * len(self._tags))
        tags = self._tags[flow] = _Tags(self._now, self._now)
        return tags
