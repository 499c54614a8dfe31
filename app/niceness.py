"""Lets a process give way to others where there are too few cores for all of them."""

import contextlib
import os
from pathlib import Path

_AUTOGROUP = Path("/proc/self/autogroup")


def give_way(niceness: int) -> None:
    """Lower the priority of this process by ``niceness`` (0 to 19).

    Linux shares the processor among sessions before it looks at the processes in them, outside
    containers at least (sched(7), "The autogroup feature"), and each of ours begins a session.
    """
    os.nice(niceness)
    if niceness:
        with contextlib.suppress(OSError):  # no such feature here
            _AUTOGROUP.write_text(str(niceness))
