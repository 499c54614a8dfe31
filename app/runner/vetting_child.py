"""The process that tries model files: opens each in a fork of its own and says what became of it.

A fork begins as clean as the first one did, whatever the file before it has done, and costs some
milliseconds. Its limits are the kernel's: time, memory, no core dump, no file opened or written.
"""

import contextlib
import math
import os
import resource
import select
import signal
import sys
from pathlib import Path
from typing import IO, NoReturn

import msgspec

from app.errors import ArtifactError
from app.runner.graph import check_graph
from app.runner.loading import load_engine
from app.runner.verdict import Trial, Verdict

_IDLE_S = 30.0
"""After this long without a file the process ends; the next file starts another."""
_FIRST_VICTIM = "1000"
"""Value of oom_score_adj: where memory runs out, the kernel takes this process first."""
_TIME_SIGNALS = (signal.SIGALRM, signal.SIGXCPU)


def main() -> None:
    """Answer until the runner closes the pipe or has no more files."""
    with contextlib.suppress(OSError):  # Linux alone has it
        Path("/proc/self/oom_score_adj").write_text(_FIRST_VICTIM)
    answers = sys.stdout.buffer
    while line := _next_line(sys.stdin.buffer):
        trial = msgspec.json.decode(line, type=Trial)
        model = sys.stdin.buffer.read(trial.num_bytes)
        if len(model) < trial.num_bytes:
            return
        answers.write(msgspec.json.encode(try_in_fork(model, trial)) + b"\n")
        answers.flush()


def try_in_fork(model: bytes, trial: Trial) -> Verdict:
    """Open and try ``model`` in a fork of this process."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        _try_and_exit(model, trial, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    if status:
        return Verdict(is_sound=False, reason=_describe_end(status, trial))
    return msgspec.json.decode(said, type=Verdict)


def judge(model: bytes, trial: Trial) -> Verdict:
    """Open and try ``model`` in this process."""
    try:
        check_graph(model)
        load_engine(model, "cpu")
    except ArtifactError as error:
        return Verdict(is_sound=False, reason=str(error))
    except MemoryError:
        limit = f"{trial.memory_bytes / 2**20:.0f} MiB"
        return Verdict(is_sound=False, reason=f"opening it takes more than {limit} of memory")
    return Verdict(is_sound=True)


def _next_line(pipe: IO[bytes]) -> bytes:
    readable, _, _ = select.select([pipe], [], [], _IDLE_S)
    return pipe.readline() if readable else b""


def _try_and_exit(model: bytes, trial: Trial, writing: int) -> NoReturn:
    status = os.EX_SOFTWARE
    try:
        _limit_process(trial)
        os.write(writing, msgspec.json.encode(judge(model, trial)))
        status = os.EX_OK
    finally:
        os._exit(status)


def _limit_process(trial: Trial) -> None:
    """Set limits that this process can not lift again."""
    cpu_s = math.ceil(_used_cpu_s() + trial.timeout_s)
    memory_bytes = _used_memory_bytes() + trial.memory_bytes
    limits = {
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_CPU: (cpu_s, cpu_s + 1),  # SIGXCPU at the first, SIGKILL at the second
        resource.RLIMIT_DATA: (memory_bytes, memory_bytes),
        resource.RLIMIT_FSIZE: (0, 0),
        resource.RLIMIT_NOFILE: (0, 0),
    }
    signal.setitimer(signal.ITIMER_REAL, trial.timeout_s)
    for limit, values in limits.items():
        resource.setrlimit(limit, values)


def _used_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _used_memory_bytes() -> int:
    """Return what RLIMIT_DATA counts already; 0 where there is no way to tell."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[5]
    except OSError:
        return 0
    return int(pages) * resource.getpagesize()


def _describe_end(status: int, trial: Trial) -> str:
    if not os.WIFSIGNALED(status):
        return f"opening it ended the process that tried it, with status {os.WEXITSTATUS(status)}"
    number = os.WTERMSIG(status)
    if number in _TIME_SIGNALS:
        return f"opening and trying it takes longer than {trial.timeout_s:g} s"
    return f"opening it ended the process that tried it ({signal.Signals(number).name})"


if __name__ == "__main__":
    main()
