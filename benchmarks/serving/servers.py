"""Starts the servers that are compared, pinned to a core, and reads what they use."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from tests.e2e.client import Client, LostRequestError

ROOT = Path(__file__).parents[2]
PEERS = Path(__file__).parent / "peers"
CACHE = ROOT / "runs" / "serving"
SERVER_CORE, LOAD_CORE = 0, 1

_PACKAGES = {
    "litserve": ["litserve==0.2.19", "onnxruntime==1.32.0"],
    "triton": ["nvidia-pytriton==0.7.0", "numpy<2", "onnxruntime==1.32.0"],
}
_SCRIPTS = {"floor": "floor_asgi.py", "litserve": "litserve_app.py", "triton": "triton_start.py"}
_KINDS = {"app.gateway.server": "gateway", "app.runner.start": "runner"}
_PASSING = "app.runner.vetting_child"
"""Ends when it has had nothing to do for a while."""
_SYSTEM_PYTHON = Path("/usr/bin/python3.11")
"""Triton's stub links to the system's libpython."""
_START_TIMEOUT_S = 180
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

Usage = dict[str, float]


@dataclass
class Server:
    """A running server and its processes, by what they do."""

    name: str
    port: int
    processes: Mapping[str, list[int]] = field(default_factory=dict)

    def cpu_seconds(self) -> Usage:
        """Return the processor time that each kind of process has used."""
        return {name: sum(map(_cpu_seconds, pids)) for name, pids in self.processes.items()}

    def memory_mib(self) -> float:
        """Return the proportional memory of all processes: shared pages count once."""
        return sum(_memory_mib(pid) for pids in self.processes.values() for pid in pids)

    async def metrics(self, model_name: str) -> Usage:
        """Return the counters of a model's batches; none for a peer."""
        if self.name != "gatecast":
            return {}
        async with Client(self.port) as client:
            answer = await client.get("/metrics")
        pattern = rf'^gatecast_(batch_\w+_(?:sum|count)){{model_name="{model_name}"}} (\S+)$'
        found = re.findall(pattern, answer.body.decode(), re.MULTILINE)
        return {name: float(value) for name, value in found}


@contextlib.contextmanager
def pinned(*cores: int) -> Iterator[None]:
    """Run what is started meanwhile on these cores, where there are such; none means all."""
    before = os.sched_getaffinity(0)
    if before & set(cores):
        os.sched_setaffinity(0, before & set(cores))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.asynccontextmanager
async def serving(
    name: str, model: Path, *more: str, cores: Sequence[int] = (SERVER_CORE,)
) -> AsyncIterator[Server]:
    """Run a server with the model at ``model``; what it prints goes to a file beside others.

    Args:
        name: ``gatecast``, with one gateway, one runner, no kept states (the requests come again
            and again) and its other defaults, or a peer, whose environment is made where it is
            missing.
        model: A file, for gatecast in its place in a model repository.
        more: Options of gatecast, instead of these; of Triton, its number of instances.
        cores: Where it runs; all of them where none is named.
    """
    port = _free_port()
    with tempfile.TemporaryDirectory() as scratch:
        command = [*_command(name, port, model, Path(scratch)), *more]
        with pinned(*cores), (CACHE / f"{name}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *command, stdout=log, stderr=log, start_new_session=True
            )
        try:
            await _wait_until_ready(port, process)
            yield Server(name, port, _group(_descendants(process.pid)))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # a session of its own: nobody else's
            await process.wait()


def _command(name: str, port: int, model: Path, scratch: Path) -> list[str]:
    if name == "gatecast":
        options = [f"--port={port}", "--device=cpu", "--gateways=1", "--runners=1"]
        options.append("--state-cache-bytes=0")
        repository = f"--model-repository={model.parents[2]}"
        return [sys.executable, "-m", "app", "serve", repository, *options]
    python = sys.executable if name == "floor" else str(_environment(name))
    return [python, str(PEERS / _SCRIPTS[name]), str(port), str(model), str(scratch)]


def _environment(name: str) -> Path:
    python = CACHE / name / "bin" / "python"
    if not (CACHE / name / "made").exists():
        base = _SYSTEM_PYTHON if _SYSTEM_PYTHON.exists() else Path(sys.executable)
        subprocess.run([base, "-m", "venv", CACHE / name], check=True)  # noqa: S603
        install = [str(python), "-m", "pip", "install", "--quiet", *_PACKAGES[name]]
        subprocess.run(install, check=True)  # noqa: S603
        (CACHE / name / "made").touch()
    return python


async def _wait_until_ready(port: int, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(_START_TIMEOUT_S):
        while process.returncode is None:
            with contextlib.suppress(OSError, LostRequestError):
                async with Client(port) as client:
                    if (
                        await client.get("/v2/health/ready")
                    ).status != HTTPStatus.SERVICE_UNAVAILABLE:
                        return
            await asyncio.sleep(0.2)
    raise RuntimeError(f"the server ended; see {CACHE}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _descendants(pid: int) -> list[int]:
    listings = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for listing in listings for child in listing.read_text().split()]
    return [pid, *(one for child in children for one in _descendants(child))]


def _group(processes: list[int]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for pid in processes:
        command = Path(f"/proc/{pid}/cmdline").read_text()
        if _PASSING in command:
            continue
        kind = next((name for module, name in _KINDS.items() if module in command), "server")
        groups.setdefault(kind, []).append(pid)
    return groups


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _memory_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0
