"""Child processes of the supervisor, each started again whenever it is lost."""

import asyncio
import contextlib
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO

import msgspec

from app.errors import StartupError
from app.lifeline import NOT_NEEDED_STATUS, ReadyReport

_LONGEST_BACKOFF_S = 5.0
_STABLE_AFTER_S = 10.0
_MAX_REPORT_BYTES = 64 * 2**20
"""Some kilobytes for each of 10,000 model versions."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Longest silence of a child before it is ready, and afterwards, in seconds."""

    startup_s: float
    silence_s: float


class Child:
    """One process that is kept running.

    Args:
        name: Of the process, in messages.
        command: Arguments of the interpreter; ``{lifeline}`` and ``{restarts}`` are filled in.
        environment: Of the process.
        file_descriptors: What it inherits.
        patience: A child silent for longer is killed and replaced.
        ended: Called with the id of every process that has ended.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: dict[str, str],
        *,
        file_descriptors: Sequence[int],
        patience: Patience,
        ended: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.ready: asyncio.Future[ReadyReport] = asyncio.get_running_loop().create_future()
        self.was_killed = False
        self._name = name
        self._command = command
        self._environment = environment
        self._file_descriptors = tuple(file_descriptors)
        self._patience = patience
        self._ended = ended
        self._process: asyncio.subprocess.Process | None = None
        self._is_stopping = False

    async def run(self) -> None:
        """Keep the process running until it is stopped.

        Raises:
            StartupError: It ended before it was ready for the first time.
        """
        backoff_s = 0.0
        for restarts in itertools.count():
            started_at = time.monotonic()
            status = await self._run_once(restarts)
            if self._is_stopping or status == NOT_NEEDED_STATUS:
                return
            self._check_start(status)
            is_stable = time.monotonic() - started_at > _STABLE_AFTER_S
            backoff_s = 0.0 if is_stable else min(_LONGEST_BACKOFF_S, 2 * backoff_s + 0.1)
            await asyncio.sleep(backoff_s)

    def stop(self, number: int) -> None:
        """Send a signal and start the process no more."""
        self._is_stopping = True
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def kill(self) -> None:
        """End the process at once, unless it has ended."""
        if self._process is not None and self._process.returncode is None:
            self.was_killed = True
        self.stop(signal.SIGKILL)

    def _check_start(self, status: int) -> None:
        if not self.ready.done():
            raise StartupError(f"the {self._name} ended with status {status} before it was ready")
        if failure := self.ready.result().failure:
            raise StartupError(failure)

    async def _run_once(self, restarts: int) -> int:
        reading, writing = os.pipe()
        arguments = [part.format(lifeline=writing, restarts=restarts) for part in self._command]
        with os.fdopen(reading, "rb", buffering=0) as pipe:
            try:
                process = self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *arguments,
                    env=self._environment,
                    pass_fds=(writing, *self._file_descriptors),
                    start_new_session=True,
                )
            finally:
                os.close(writing)
            if self._is_stopping:  # the signal came while it was being started
                process.kill()
            watching = asyncio.create_task(self._watch(pipe, process))
            status = await process.wait()
            await watching
        self._ended(process.pid)
        return status

    async def _watch(self, pipe: IO[bytes], process: asyncio.subprocess.Process) -> None:
        reader = asyncio.StreamReader(_MAX_REPORT_BYTES)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        patience_s = self._patience.startup_s
        try:
            while line := await asyncio.wait_for(reader.readline(), patience_s):
                patience_s = self._patience.silence_s
                if line.strip() and not self.ready.done():
                    self.ready.set_result(msgspec.json.decode(line, type=ReadyReport))
        except (TimeoutError, ValueError) as error:
            if isinstance(error, ValueError) and not self.ready.done():
                failure = f"the report of the {self._name} can not be read: {error}"
                self.ready.set_result(ReadyReport(failure))
            if not self._is_stopping and process.returncode is None:
                process.kill()
        finally:
            transport.close()
