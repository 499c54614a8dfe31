"""How many cores this process may keep busy."""

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def count_cores(cgroup: Path = _CGROUP) -> int:
    """Count the cores that affinity leaves, and no more than the quota of the container.

    A part of a core counts as one: a process that waits for its share costs memory, not time.

    Args:
        cgroup: Where the limits of this process's control group are, of version 1 or 2.
    """
    quota = _quota(cgroup)
    usable = _usable_cores()
    return usable if quota is None else max(1, min(usable, math.ceil(quota)))


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota(cgroup: Path) -> float | None:
    """Return the cores that the quota amounts to; None where there is none."""
    try:
        allowed, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        allowed = _read(cgroup / "cpu" / "cpu.cfs_quota_us")
        period = _read(cgroup / "cpu" / "cpu.cfs_period_us")
    try:
        cores = int(allowed) / int(period)
    except (ValueError, ZeroDivisionError):  # `max`, or no such file
        return None
    return cores if cores > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
