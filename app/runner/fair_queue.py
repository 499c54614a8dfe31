"""Items of several flows, each flow in its order, flows in turn by the work that they ask for.

Start-time fair queueing (Goyal, Vin and Cheng, 1996): an item starts, on a clock that counts work,
where the one before it in its flow ends, and no earlier than what was taken last. The earliest
start is taken first. So a flow that asks for little is not held up by one that asks for much, and
a single flow is first in, first out.
"""

import heapq
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from app.turns import WaitingWork

Item = TypeVar("Item")

Entry = tuple[float, int, Item]
"""Start, number of arrival, item."""


class FairQueue(Generic[Item]):
    """See the module; ``work`` is what waits, until it is released."""

    def __init__(self) -> None:
        self.work = WaitingWork()
        self._ends: dict[str, float] = {}
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
        start = max(self._now, self._ends.get(flow, 0.0))
        self._ends[flow] = start + work
        self._num_put += 1
        heapq.heappush(self._entries, (start, self._num_put, item))
        self.work.add(flow, work)

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

    def release(self, flow: str, work: int) -> None:
        """Count work no more, of an item that was taken for good or that nobody waits for."""
        if self.work.remove(flow, work):
            del self._ends[flow]

    def clear(self) -> None:
        """Take all items out; their work must be released."""
        self._entries.clear()
