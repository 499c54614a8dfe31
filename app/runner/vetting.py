"""Lets through only those model files that another process has opened and tried.

A model file is code: it may end or hang the process that opens it, or eat its memory. So a child
process tries each file first, on the CPU and within limits (``vetting_child``), and what ends there
is refused here. The bytes that were tried are those that are opened, whatever happens to the file.
"""

import contextlib
import hashlib
import logging
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from app.artifact.directory import MODEL_FILE, find_versions
from app.errors import ArtifactError
from app.runner.model_file import read_model_file
from app.runner.verdict import Trial, Verdict
from app.runner.vetting_process import VettingProcess

logger = logging.getLogger(__name__)

_BASE_MEMORY_BYTES = 2**30
_MEMORY_PER_BYTE = 4
"""The file itself, ONNX Runtime's message, its tensors, and what optimisation makes of them."""
_MAX_REASON_LENGTH = 300
_IS_LOST = "the process that tries model files is lost"


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of the file with this digest; ``reason`` is empty where it is sound."""

    digest: str
    reason: str


class Vetter:
    """Reads the model files of a repository.

    Files are tried one at a time, in the order in which they were asked for.

    Args:
        directory: The repository.
        max_bytes: Size of the largest file that is read.
        timeout_s: Longest a file may take when it is opened and tried.
        memory: Folder that keeps the digests of sound files, for all runners of one service and for
            those that take a lost one's place.
        process: What tries files, where it was started already; closing ends it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_bytes: int,
        timeout_s: float,
        memory: Path,
        process: VettingProcess | None = None,
    ) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._memory = memory
        self._child = process
        self._is_closed = False
        self._closing = threading.Lock()
        """So that no child begins once ``_is_closed``: nobody would kill it."""
        self._worker = ThreadPoolExecutor(1, "vetting")
        self._ahead: dict[Path, Future[_Outcome | None]] = {}
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
        with self._closing:
            self._is_closed = True
            if self._child is not None:
                self._child.kill()  # what waits for it has its answer then
        self._worker.shutdown()
        self._drop_child()

    def look_ahead(self) -> None:
        """Begin to try the newest version of every model, which ``read`` will be asked for next.

        So one core tries a file while another opens the one before it.
        """
        with contextlib.suppress(OSError):  # who reads the repository next says so
            for folder in sorted(self._directory.iterdir()):
                if versions := find_versions(folder):
                    path = folder / str(versions[-1]) / MODEL_FILE
                    self._ahead[path] = self._worker.submit(self._try_ahead, path)

    def read(self, path: Path) -> bytes:
        """Return the bytes of a model file that may be opened.

        Raises:
            ArtifactError: It may not; the message says why.
        """
        ahead = self._ahead.pop(path, None)
        outcome = None if ahead is None else ahead.result()
        model, digest = self._read(path)
        if outcome is None or outcome.digest != digest:
            if self._is_closed:
                raise ArtifactError(_IS_LOST)
            outcome = self._worker.submit(self._try, model, digest).result()
        if outcome.reason:
            raise ArtifactError(outcome.reason)
        return model

    def _read(self, path: Path) -> tuple[bytes, str]:
        model = read_model_file(path, root=self._directory, max_bytes=self._max_bytes)
        return model, hashlib.sha256(model).hexdigest()

    def _try_ahead(self, path: Path) -> _Outcome | None:
        try:
            return self._try(*self._read(path))
        except ArtifactError:
            return None  # it is not read; nor will it be when its turn comes

    def _try(self, model: bytes, digest: str) -> _Outcome:
        known = self._memory / digest
        if known.exists():
            return _Outcome(digest, "")
        trial = Trial(
            num_bytes=len(model),
            timeout_s=self._timeout_s,
            memory_bytes=_BASE_MEMORY_BYTES + _MEMORY_PER_BYTE * len(model),
        )
        verdict = self._ask(trial, model) or self._ask(trial, model)
        if verdict is None:
            return _Outcome(digest, _IS_LOST)
        if not verdict.is_sound:
            return _Outcome(digest, _clean(verdict.reason) or "it is not sound")
        with contextlib.suppress(OSError):  # then it is tried once more the next time
            known.touch()
        return _Outcome(digest, "")

    def _ask(self, trial: Trial, model: bytes) -> Verdict | None:
        """Return what the child says, or None where it is lost: it may have been idle too long."""
        with self._closing:
            if self._is_closed:
                return None
            if self._child is None:
                self._child = VettingProcess()
            child = self._child
        verdict = child.ask(trial, model)
        if verdict is None:
            self._drop_child()
        return verdict

    def _drop_child(self) -> None:
        if self._child is not None:
            self._child.end()
        self._child = None


def _clean(reason: str) -> str:
    """Names in a message come from the file: they must not steer a terminal."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in reason)
    return shown[:_MAX_REASON_LENGTH]
