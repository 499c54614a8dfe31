"""A real ``gatecast serve`` on a free port, started and stopped by the test."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.artifact.directory import MODEL_FILE
from tests.waiting import until

COVERAGE_VARIABLES = ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")
"""What makes a child process measure coverage, which takes it half as long again."""

_STARTUP_TIMEOUT_S = 60
_STOP_TIMEOUT_S = 40


@dataclass
class Service:
    """A running service: its port, its processes and what it printed."""

    process: asyncio.subprocess.Process
    port: int
    banner: str

    @property
    def admin_port(self) -> int:
        """The port for administrators, where the service was given one."""
        match = re.search(r"^admin    http://127\.0\.0\.1:(\d+)$", self.banner, re.MULTILINE)
        assert match is not None
        return int(match[1])

    def children(self, module: str) -> list[int]:
        """Process ids of the children that run ``module``."""
        listing = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [pid for pid in map(int, listing.split()) if module in _command_of(pid)]

    @property
    def runners(self) -> list[int]:
        return self.children("app.runner.start")

    @property
    def gateways(self) -> list[int]:
        return self.children("app.gateway.server")

    async def wait_for_another_runner(self, than: int) -> None:
        """Return once one other runner process stands in the place of ``than``."""
        await until(lambda: than not in self.runners and len(self.runners) == 1)

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), _STOP_TIMEOUT_S)


@asynccontextmanager
async def serving(model_repository: Path, **settings: object) -> AsyncIterator[Service]:
    """Serve ``model_repository`` until the block ends."""
    given = {"GATECAST_DRAIN_DELAY_S": "0.1"} | {
        f"GATECAST_{name.upper()}": str(value) for name, value in settings.items()
    }
    options = (f"--model-repository={model_repository}", "--port=0", "--device=cpu")
    async with serving_container(given, *options) as service:
        yield service


@asynccontextmanager
async def serving_at_full_speed(
    model_repository: Path, **settings: object
) -> AsyncIterator[Service]:
    """As ``serving``, without measuring coverage."""
    with pytest.MonkeyPatch.context() as environment:
        for name in COVERAGE_VARIABLES:
            environment.delenv(name, raising=False)
        async with serving(model_repository, **settings) as service:
            yield service


@asynccontextmanager
async def serving_container(
    environment: Mapping[str, str], *options: str, module: str = "app"
) -> AsyncIterator[Service]:
    """Run what the image runs, with variables as a platform sets them, until the block ends."""
    foreign = ("GATECAST_", "AIP_", "SM_", "SAGEMAKER_", "DEEPAR_")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, "serve", *options,
        stdout=asyncio.subprocess.PIPE,
        env={**inherited, **environment},
    )  # fmt: skip
    try:
        async with asyncio.timeout(_STARTUP_TIMEOUT_S):
            banner = await _read_banner(process)
        match = re.search(r"http://127\.0\.0\.1:(\d+)", banner)
        assert match is not None
        yield Service(process, int(match[1]), banner)
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), _STOP_TIMEOUT_S)
            except TimeoutError:
                process.kill()
                await process.wait()
        await _read_to_the_end(process)


def write_model(model_repository: Path, model: bytes, name: str = "tiny", version: int = 1) -> Path:
    """Put an artifact in its place."""
    path = model_repository / name / str(version) / MODEL_FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(model)
    return path


async def _read_to_the_end(process: asyncio.subprocess.Process) -> None:
    """Wait until the last child is gone: an open pipe would warn in some later test."""
    assert process.stdout is not None
    async with asyncio.timeout(_STOP_TIMEOUT_S):
        await process.stdout.read()


async def _read_banner(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    lines: list[str] = []
    while not lines or not lines[-1].startswith(("try", "model    none")):
        line = (await process.stdout.readline()).decode()
        assert line, f"the service ended after {''.join(lines)!r}"
        lines.append(line)
    return "".join(lines)


def _command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
