"""Keeps the states behind recent histories, and the forecasts made from them.

An entry is found by the SHA-256 of its whole history, of the model file that made it and of the
caller's key. Histories are also filed by the digest of their first steps, with the lengths that are
kept of such a beginning: so a look-up reads a history once, however many prefixes of it are kept.
"""

from collections import Counter, OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from app import metrics
from app.runner.history import History
from app.tensors import Tensors

LEAST_STEPS = 8
"""Shorter histories are not kept: they save nothing, and too many begin alike."""

_MAX_PREFIXES = 32
_OVERHEAD_BYTES = 1024

Version = tuple[str, int, str]
"""Model name, model version and SHA-256 of the model file."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known of one history; rows of one.

    Attributes:
        states: By the names of the inputs that take them.
        outputs: What the model gave at its last step.
    """

    states: Tensors
    outputs: Tensors

    @property
    def num_bytes(self) -> int:
        """Memory that it takes, with what Python needs around it."""
        arrays = (*self.states.values(), *self.outputs.values())
        return sum(array.nbytes for array in arrays) + _OVERHEAD_BYTES


class Place(NamedTuple):
    """Where a history is filed."""

    version: Version
    beginning: bytes
    digest: bytes
    length: int


class Found(NamedTuple):
    """The longest prefix of a history that is kept; ``length`` 0 where there is none."""

    place: Place
    length: int
    kept: Kept | None


class StateCache:
    """What is kept of all models of one runner, the least recently used of it forgotten first.

    Args:
        max_bytes: Most memory that it may take.
    """

    def __init__(self, max_bytes: int) -> None:
        self.num_bytes = 0
        self._max_bytes = max_bytes
        self._entries: OrderedDict[bytes, tuple[Place, Kept]] = OrderedDict()
        self._lengths: dict[bytes, Counter[int]] = {}
        self._metrics: dict[str, _CacheMetrics] = {}
        self._versions: Collection[Version] = ()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, history: History, version: Version, outputs: Sequence[str]) -> Found:
        """Look for the longest prefix of ``history`` that is kept.

        Args:
            history: Of at least ``LEAST_STEPS`` steps.
            version: What it is to be run by; part of its digests.
            outputs: What is asked for: the whole history counts only where these are kept too.
        """
        beginning = history.digest(LEAST_STEPS)
        known = self._lengths.get(beginning, ())
        within = sorted(length for length in known if length <= history.length)
        lengths = within[-_MAX_PREFIXES:]
        digests = [history.digest(length) for length in lengths]
        place = Place(version, beginning, history.digest(history.length), history.length)
        for length, digest in zip(reversed(lengths), reversed(digests), strict=True):
            entry = self._entries.get(digest)
            if entry is None or (length == history.length and not _has(entry[1], outputs)):
                continue
            self._entries.move_to_end(digest)
            self._metrics_of(version).observe_hit(length)
            return Found(place, length, entry[1])
        self._metrics_of(version).misses.inc()
        return Found(place, 0, None)

    def put(self, place: Place, kept: Kept) -> None:
        """Keep what was found out about a history, unless its model was replaced meanwhile.

        The arrays must be no views of larger ones.
        """
        if place.version not in self._versions:
            return
        self._drop(place.digest)
        self._entries[place.digest] = (place, kept)
        self._lengths.setdefault(place.beginning, Counter())[place.length] += 1
        self._add(place, kept.num_bytes, 1)
        while self.num_bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def keep_only(self, versions: Collection[Version]) -> None:
        """Forget what other model files have made, and keep nothing more of them."""
        self._versions = versions
        stale = [d for d, (place, _) in self._entries.items() if place.version not in versions]
        for digest in stale:
            self._drop(digest)

    def _drop(self, digest: bytes) -> None:
        entry = self._entries.pop(digest, None)
        if entry is None:
            return
        place, kept = entry
        lengths = self._lengths[place.beginning]
        lengths[place.length] -= 1
        if not lengths[place.length]:
            del lengths[place.length]
        if not lengths:
            del self._lengths[place.beginning]
        self._add(place, -kept.num_bytes, -1)

    def _add(self, place: Place, num_bytes: int, count: int) -> None:
        self.num_bytes += num_bytes
        self._metrics_of(place.version).observe_size(num_bytes, count)

    def _metrics_of(self, version: Version) -> "_CacheMetrics":
        model_name = version[0]
        if model_name not in self._metrics:
            self._metrics[model_name] = _CacheMetrics(model_name)
        return self._metrics[model_name]


class _CacheMetrics:
    """The metrics of one model, with their labels looked up once."""

    def __init__(self, model_name: str) -> None:
        self.misses = metrics.STATE_CACHE_MISSES.labels(model_name)
        self._hits = metrics.STATE_CACHE_HITS.labels(model_name)
        self._saved_steps = metrics.STATE_CACHE_SAVED_STEPS.labels(model_name)
        self._bytes = metrics.STATE_CACHE_BYTES.labels(model_name)
        self._entries = metrics.STATE_CACHE_ENTRIES.labels(model_name)

    def observe_hit(self, steps: int) -> None:
        self._hits.inc()
        self._saved_steps.inc(steps)

    def observe_size(self, num_bytes: int, count: int) -> None:
        self._bytes.inc(num_bytes)
        self._entries.inc(count)


def _has(kept: Kept, outputs: Sequence[str]) -> bool:
    return kept.outputs.keys() >= set(outputs)
