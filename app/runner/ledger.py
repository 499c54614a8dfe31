"""What every version has done since the service started, kept for the runner that comes next.

Whatever is told of it is on file first, so no count that anybody has seen goes down when a runner
is lost. What it counted after that and after its last beat is lost with it, and so is what was told
while the file could not be written.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

import msgspec

from app.runner.batcher import DynamicBatcher
from app.statistics import KeptStatistics, VersionStatistics, load_statistics

_MAX_FREED = 256
"""Versions that are not served any more whose counts are kept, should they come back."""

logger = logging.getLogger(__name__)

Key = tuple[str, int]
"""Model name and version."""


class Ledger:
    """The statistics of one runner and of those that it replaced.

    Args:
        path: File that keeps them.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = b""
        self._is_failing = False
        kept = load_statistics(path)
        self._known = {_key_of(one): one for one in (*kept.freed, *kept.served)}

    def find(self, model_name: str, model_version: int) -> VersionStatistics:
        """Return the statistics that a version goes on with; new ones where it is new."""
        key = (model_name, model_version)
        known = self._known.pop(key) if key in self._known else VersionStatistics(*key)
        self._known[key] = known  # at the end: those that were freed long ago are given up first
        return known

    def read(self, batchers: Iterable[DynamicBatcher]) -> list[VersionStatistics]:
        """Return the statistics of what runs now, once they are on file or can not be."""
        served: dict[Key, VersionStatistics] = {}
        num_waiting: dict[Key, int] = {}
        for (
            batcher
        ) in batchers:  # a version and the one of its number that it replaced share theirs
            one = batcher.read_statistics()
            served[_key_of(one)] = one
            num_waiting[_key_of(one)] = num_waiting.get(_key_of(one), 0) + one.pending_count
        for key, one in served.items():
            one.pending_count = num_waiting[key]
        self._keep(served)
        return list(served.values())

    def _keep(self, served: dict[Key, VersionStatistics]) -> None:
        freed = {key: one for key, one in self._known.items() if key not in served}
        for key in list(freed)[:-_MAX_FREED]:
            del freed[key]
        self._known = freed | served
        content = msgspec.msgpack.encode(
            KeptStatistics(list(served.values()), list(freed.values()))
        )
        if content != self._written:
            self._write(content)

    def _write(self, content: bytes) -> None:
        """Write the file; where that fails it is tried again at the next look."""
        staged = self._path.with_suffix(".counts-staged")
        try:
            staged.write_bytes(content)
            staged.replace(self._path)
        except OSError as error:
            if not self._is_failing:
                logger.warning("the counts of the models can not be kept: %s", error)
            self._is_failing = True
            return
        self._written, self._is_failing = content, False


def _key_of(one: VersionStatistics) -> Key:
    return one.model_name, one.model_version
