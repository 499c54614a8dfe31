"""Lets through only those model files that another process has opened and tried.

A model file is code: it may end or hang the process that opens it, or eat its memory. So a child
process tries each file first, on the CPU and within limits (``vetting_child``), and what ends there
is refused here. The bytes that were tried are those that are opened, whatever happens to the file.
"""

import contextlib
import hashlib
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

import msgspec

from app.errors import ArtifactError
from app.runner.model_file import read_model_file
from app.runner.verdict import Trial, Verdict

logger = logging.getLogger(__name__)

_GRACE_S = 30.0
"""For the child to start; a file that hangs is given up much earlier, by the child itself."""
_BASE_MEMORY_BYTES = 2**30
_MEMORY_PER_BYTE = 4
"""The file itself, ONNX Runtime's message, its tensors, and what optimisation makes of them."""
_INHERITED = ("PATH", "LANG", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH")
_MAX_REASON_LENGTH = 300


class Vetter:
    """Reads the model files of a repository.

    Args:
        directory: The repository.
        max_bytes: Size of the largest file that is read.
        timeout_s: Longest a file may take when it is opened and tried.
        memory: Folder that keeps the digests of sound files, for all runners of one service and for
            those that take a lost one's place.
    """

    def __init__(self, directory: Path, *, max_bytes: int, timeout_s: float, memory: Path) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._memory = memory
        self._child: _Child | None = None
        self._asking = threading.Lock()
        self._is_closed = False
        self._memory.mkdir(exist_ok=True)
        if sys.platform != "linux":
            logger.warning("this system does not limit memory: model files are tried without limit")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_closed = True
        if self._child is not None:
            self._child.kill()  # whoever waits for it has its answer then
        with self._asking:
            self._drop_child()

    def read(self, path: Path) -> bytes:
        """Return the bytes of a model file that may be opened.

        Raises:
            ArtifactError: It may not; the message says why.
        """
        model = read_model_file(path, root=self._directory, max_bytes=self._max_bytes)
        known = self._memory / hashlib.sha256(model).hexdigest()
        if not known.exists():
            self._try(model)
            with contextlib.suppress(OSError):  # then it is tried once more the next time
                known.touch()
        return model

    def _try(self, model: bytes) -> None:
        trial = Trial(
            num_bytes=len(model),
            timeout_s=self._timeout_s,
            memory_bytes=_BASE_MEMORY_BYTES + _MEMORY_PER_BYTE * len(model),
        )
        with self._asking:
            verdict = self._ask(trial, model) or self._ask(trial, model)
        if verdict is None:
            raise ArtifactError("the process that tries model files is lost")
        if not verdict.is_sound:
            raise ArtifactError(_clean(verdict.reason))

    def _ask(self, trial: Trial, model: bytes) -> Verdict | None:
        """Return what the child says, or None where it is lost: it may have been idle too long."""
        if self._is_closed:
            return None
        if self._child is None:
            self._child = _Child()
        verdict = self._child.ask(trial, model)
        if verdict is None:
            self._drop_child()
        return verdict

    def _drop_child(self) -> None:
        if self._child is not None:
            self._child.end()
        self._child = None


class _Child:
    """The process that tries files, until it is lost."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "app.runner.vetting_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_bare_environment(),
            start_new_session=True,
        )

    def ask(self, trial: Trial, model: bytes) -> Verdict | None:
        """Return what it says of ``model``, or None where it is lost."""
        stdin, stdout = (
            cast("IO[bytes]", pipe) for pipe in (self._process.stdin, self._process.stdout)
        )
        timer = threading.Timer(trial.timeout_s + _GRACE_S, self.kill)
        timer.start()
        try:
            stdin.write(msgspec.json.encode(trial) + b"\n")
            stdin.write(model)
            stdin.flush()
            return msgspec.json.decode(stdout.readline(), type=Verdict)
        except (OSError, msgspec.DecodeError):
            return None
        finally:
            timer.cancel()

    def end(self) -> None:
        """End the process and what it tries."""
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # what was written and not read is lost with it
                cast("IO[bytes]", pipe).close()

    def kill(self) -> None:
        """Kill the process and what it tries; ``ask`` returns then."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


def _bare_environment() -> dict[str, str]:
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return inherited | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _clean(reason: str) -> str:
    """Names in a message come from the file: they must not steer a terminal."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in reason)
    return shown[:_MAX_REASON_LENGTH]
