"""The runner's end of the process that tries model files.

It imports next to nothing, so that a runner can start that process before all else.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from typing import IO, cast

import msgspec

from app.runner.verdict import Trial, Verdict

_GRACE_S = 30.0
"""For the process to start; a file that hangs is given up much earlier, by the process itself."""
_INHERITED = ("PATH", "LANG", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH")


class VettingProcess:
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
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


def _bare_environment() -> dict[str, str]:
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return inherited | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
