"""The pipe on which a child process tells its supervisor that it is ready and still turns."""

import asyncio
import os
from collections.abc import Callable

import msgspec

BEAT_INTERVAL_S = 0.5
NOT_NEEDED_STATUS = 77
"""Exit status of a child that has nothing to do here, such as a second runner for one GPU."""
STARTUP_FAILURE_STATUS = 78
"""Exit status of a child that can not start as it was told to (EX_CONFIG of sysexits.h)."""


class ModelReport(msgspec.Struct, frozen=True):
    """One model version that a runner found.

    ``reason`` says why it was refused; otherwise ``summary`` says what it is and ``example`` is a
    request that it will answer, in JSON, at the path that ends in ``task``; both are empty where it
    is served as tensors alone.
    """

    model_name: str
    model_version: int
    summary: str = ""
    example: str = ""
    reason: str = ""
    task: str = ""


class ReadyReport(msgspec.Struct, frozen=True):
    """What a child says first: that it is ready or, in ``failure``, why it can not be."""

    failure: str = ""
    device: str = ""
    note: str = ""
    models: list[ModelReport] = []


class Lifeline:
    """The child's end."""

    def __init__(self, file_descriptor: int) -> None:
        self._file_descriptor = file_descriptor

    def report(self, ready: ReadyReport) -> None:
        """Say that the child is ready, or why it can not be."""
        os.write(self._file_descriptor, msgspec.json.encode(ready) + b"\n")

    async def beat_until(
        self, stopped: asyncio.Event, *, is_well: Callable[[], bool] = lambda: True
    ) -> None:
        """Beat while the child is well, until it is stopped or its supervisor is gone."""
        while not stopped.is_set():
            try:
                if is_well():
                    os.write(self._file_descriptor, b"\n")
            except BrokenPipeError:
                stopped.set()
            try:
                await asyncio.wait_for(stopped.wait(), BEAT_INTERVAL_S)
            except TimeoutError:
                continue
