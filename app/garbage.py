"""Keeps Python's collector of reference cycles out of the way of requests."""

import gc

_MOST_YOUNG = 50_000
"""New objects before the next look for cycles.

By default one comes every few requests, and takes a quarter of their time. Requests leave no cycles
behind unless they fail, so what gathers meanwhile is small.
"""


def collect_rarely() -> None:
    """Take what was loaded so far for permanent, and look for cycles seldom from now on."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_MOST_YOUNG, 10, 10)
