"""Stamps with a time zone on one clock, on which the steps of a series are even."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from gatecast_client.grid import Stamp


@dataclass(frozen=True, slots=True)
class Clock:
    """How the stamps of a table are counted, as the service and training count those of a file.

    Stamps with one offset from UTC keep their wall time. With several, as where daylight saving
    begins or ends, midnights are local days; other stamps are counted in UTC.

    Attributes:
        zone: Time zone of all stamps; None where they have several, or none.
        has_days: Whether all stamps with a time zone are local midnights.
        has_offsets: Whether they have several offsets from UTC.
    """

    zone: dt.tzinfo | None
    has_days: bool
    has_offsets: bool

    @classmethod
    def of(cls, stamps: Sequence[Stamp]) -> Self:
        """Look at all stamps of a table.

        Raises:
            ValueError: Some have a time zone, others none.
        """
        times = [stamp for stamp in stamps if isinstance(stamp, dt.datetime)]
        offsets = {time.utcoffset() for time in times}
        if None in offsets and len(offsets) > 1:
            raise ValueError("some time stamps have a time zone, others none")
        zones = {time.tzinfo for time in times}
        return cls(
            zone=zones.pop() if len(zones) == 1 else None,
            has_days=all(time.time() == dt.time() for time in times),
            has_offsets=len(offsets) > 1,
        )

    def read(self, stamp: Stamp) -> Stamp:
        """Return a stamp of the table as it is counted."""
        if not (self.has_offsets and isinstance(stamp, dt.datetime)):
            return stamp
        return stamp.replace(tzinfo=None) if self.has_days else stamp.astimezone(dt.UTC)

    def show(self, stamp: Stamp) -> Stamp:
        """Return a stamp that was counted on from those of the table in their time zone."""
        if self.zone is None or not isinstance(stamp, dt.datetime):
            return stamp
        return stamp.replace(tzinfo=self.zone) if self.has_days else stamp.astimezone(self.zone)
