"""Child processes that end, hang or can not start."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.children import Child, Patience
from app.errors import StartupError
from app.lifeline import NOT_NEEDED_STATUS
from tests.waiting import until

READY = 'import os, sys, time; fd = int(sys.argv[1]); os.write(fd, b\'{"device": "cpu"}\\n\')\n'
BEATING = READY + "while True: os.write(fd, b'\\n'); time.sleep(0.05)"


def child(
    program: str,
    tmp_path: Path,
    silence_s: float = 5.0,
    ended: Callable[[int], None] = lambda _: None,
) -> Child:
    """A process that appends its id to a file and then runs ``program``."""
    record = f"import os; open({str(tmp_path / 'pids')!r}, 'a').write(f'{{os.getpid()}}\\n')\n"
    path = tmp_path / "program.py"
    path.write_text(record + program)
    return Child(
        "child",
        [str(path), "{lifeline}", "{restarts}"],
        {"PATH": os.environ["PATH"]},
        file_descriptors=(),
        patience=Patience(10.0, silence_s),
        ended=ended,
    )


@asynccontextmanager
async def kept(kept_child: Child) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(kept_child.run())
    try:
        yield task
    finally:
        kept_child.kill()
        await asyncio.wait([task])


def pids(tmp_path: Path) -> list[int]:
    path = tmp_path / "pids"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


async def test_ready_child_reports(tmp_path: Path) -> None:
    running = child(BEATING, tmp_path)
    async with kept(running):
        assert (await asyncio.wait_for(running.ready, 10)).device == "cpu"


async def test_killed_child_is_started_again(tmp_path: Path) -> None:
    running = child(BEATING, tmp_path)
    async with kept(running):
        await asyncio.wait_for(running.ready, 10)
        os.kill(pids(tmp_path)[0], signal.SIGKILL)
        await until(lambda: len(pids(tmp_path)) == 2)


async def test_every_process_that_ended_is_named(tmp_path: Path) -> None:
    ended: list[int] = []
    running = child(BEATING, tmp_path, ended=ended.append)
    async with kept(running):
        await asyncio.wait_for(running.ready, 10)
        os.kill(pids(tmp_path)[0], signal.SIGKILL)
        await until(lambda: len(pids(tmp_path)) == 2)
    assert ended == pids(tmp_path)


async def test_silent_child_is_replaced(tmp_path: Path) -> None:
    running = child(READY + "time.sleep(100)", tmp_path, silence_s=0.2)
    async with kept(running):
        await until(lambda: len(pids(tmp_path)) >= 2)


async def test_stopped_child_is_not_started_again(tmp_path: Path) -> None:
    running = child(BEATING, tmp_path)
    async with kept(running) as task:
        await asyncio.wait_for(running.ready, 10)
        running.stop(signal.SIGTERM)
        await asyncio.wait_for(task, 10)
    assert len(pids(tmp_path)) == 1
    assert not running.was_killed


async def test_child_that_is_not_needed_is_not_started_again(tmp_path: Path) -> None:
    running = child(f"import sys; sys.exit({NOT_NEEDED_STATUS})", tmp_path)
    async with kept(running) as task:
        await asyncio.wait_for(task, 10)
    assert len(pids(tmp_path)) == 1


async def test_failure_at_start_is_passed_on_in_the_child_s_words(tmp_path: Path) -> None:
    failing = READY.replace('"device": "cpu"', '"failure": "no CUDA"') + "sys.exit(78)"
    running = child(failing, tmp_path)
    async with kept(running) as task:
        with pytest.raises(StartupError, match=r"^no CUDA$"):
            await asyncio.wait_for(task, 10)


async def test_report_of_many_models_is_read(tmp_path: Path) -> None:
    example = 'b\'{"models": [{"model_name": "m", "model_version": 1, "example": "\' + b"x" * 10**7'
    program = f"""import os, sys, time; fd = int(sys.argv[1])
os.write(fd, {example} + b'"}}]}}\\n')
while True: os.write(fd, b'\\n'); time.sleep(0.05)"""
    running = child(program, tmp_path)
    async with kept(running):
        (model,) = (await asyncio.wait_for(running.ready, 10)).models
        assert len(model.example) == 10**7


@pytest.mark.parametrize("report", ["b'x' * 2**28", "b'nonsense'"], ids=["endless", "no report"])
async def test_report_that_can_not_be_read_is_a_failure(tmp_path: Path, report: str) -> None:
    running = child(READY.replace('b\'{"device": "cpu"}\\n\'', f"{report} + b'\\n'"), tmp_path)
    async with kept(running) as task:
        with pytest.raises(StartupError, match="the report of the child can not be read"):
            await asyncio.wait_for(task, 10)


async def test_child_that_ends_before_it_is_ready_is_a_failure(tmp_path: Path) -> None:
    running = child("import sys; sys.exit(3)", tmp_path)
    async with kept(running) as task:
        with pytest.raises(StartupError, match="ended with status 3 before it was ready"):
            await asyncio.wait_for(task, 10)
