"""What the pages of docs/ say to run is run, as written, but for the port."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.service import serving, write_model
from tests.tiny_sequence_model import tiny_sequence_model

ROOT = Path(__file__).parents[2]
PAGES = {path.stem: path for path in sorted((ROOT / "docs").glob("*.md"))}
CALLS_SERVICE = ("api", "bulk", "client", "dialects", "recipes")
RUN_ELSEWHERE = {
    "make accuracy": "takes hours",
    "python -m benchmarks.accuracy.trials": "takes minutes",
    "perf_analyzer -m monthly": "make conformance runs it",
    "gatecast models": "test_labels.py has the same commands, for another model",
    "gatecast train": "README.md has the first line, and test_readme.py runs it; "
    "tests/models/test_commands.py has the options of the others",
    "MASTER_ADDR=": "tests/models/test_processes.py starts two nodes",
    "gatecast backtest": "as the first of those",
    "gatecast score": "tests/models has the commands of tasks, for other files",
    "gatecast export": "the same, in tests/export",
    "gatecast serve": "every test of a real service runs it",
    "pip install ./clients/python": "tests/clients/test_install.py runs it",
}
"""Commands that this module does not run, by how they begin, and why."""


def blocks(page: str, *languages: str) -> list[tuple[str, str]]:
    """Return the language and text of each fenced block of a page, in order."""
    found = re.findall(r"^```(\w+)\n(.*?)^```", PAGES[page].read_text(), re.DOTALL | re.MULTILINE)
    return [block for block in found if block[0] in languages]


def commands(page: str) -> Iterator[str]:
    for _, text in blocks(page, "sh"):
        yield from text.replace("\\\n", " ").strip().splitlines()


def is_elsewhere(text: str) -> bool:
    return text.startswith(tuple(RUN_ELSEWHERE))


def script_of(language: str, text: str, port: int) -> list[str]:
    """Return the command that runs a block; a crontab's follows the times and the folder."""
    text = text.replace(":8080", f":{port}")
    if language == "python":
        return [sys.executable, "-W", "ignore", "-c", text]
    if language == "crontab":
        text = text.partition(" && ")[2].replace("sales.csv", "examples/air_passengers.csv")
        text = f"{text.strip()} --url http://127.0.0.1:{port}"
    elif "gatecast_client" in text:
        text = f"{text.strip()} --url http://127.0.0.1:{port}"
    return ["bash", "-euo", "pipefail", "-c", text]


async def run(command: list[str], directory: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def call() -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - the pages' own words
            command,
            cwd=directory,
            env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    result = await asyncio.to_thread(call)
    assert result.returncode == 0, f"{command[-1]}\n{result.stdout}{result.stderr}"
    return result.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("examples", "model_repository"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.timeout(300)
async def test_blocks_that_call_the_service_run_as_written(folder: Path) -> None:
    found = [
        block
        for page in CALLS_SERVICE
        for block in blocks(page, "sh", "python", "crontab")
        if not is_elsewhere(block[1])
    ]
    models = folder / "models"
    shutil.copytree(ROOT / "model_repository", models)
    write_model(models, tiny_sequence_model("classify"), name="moods")
    async with serving(models, jobs_directory=folder / "jobs") as service:
        outputs = [await run(script_of(*block, service.port), folder) for block in found]
    for (_, text), output in zip(found, outputs, strict=True):
        if text.startswith("curl") and "-o " not in text and ">" not in text:
            check_answer(text, output)


def check_answer(command: str, output: str) -> None:
    if "Accept: text/csv" in command:
        assert output.startswith('"item_id","timestamp"'), output
    else:
        known = {"forecasts", "predictions", "outputs", "series", "job_id"}
        assert json.loads(output).keys() & known, output


def test_each_page_that_calls_the_service_has_blocks_to_run() -> None:
    assert all(blocks(page, "sh", "python", "crontab") for page in CALLS_SERVICE)


async def test_operators_can_make_a_key_as_written(folder: Path) -> None:
    (line,) = [line for line in commands("operations") if line.startswith("gatecast keys")]
    assert "gc_" in await run(["bash", "-euc", line], folder)


def test_every_command_is_run_somewhere() -> None:
    run_here = {line for page in CALLS_SERVICE for line in commands(page)}
    others = [line for page in PAGES for line in commands(page) if line not in run_here]
    unknown = [line for line in others if not is_elsewhere(line)]
    assert [line for line in unknown if not line.startswith("gatecast keys")] == []


def test_first_commands_of_training_are_those_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    first = [line for line in commands("training") if "examples/" in line]
    assert first
    assert all(f".venv/bin/{line}\n" in readme for line in first)


def test_every_script_is_run_somewhere() -> None:
    pages = {page for page in PAGES if blocks(page, "python", "crontab")}
    assert pages <= {*CALLS_SERVICE, "open-inference-protocol"}  # that one by test_oip_clients


@pytest.mark.parametrize("page", PAGES)
def test_json_is_json(page: str) -> None:
    for _, text in blocks(page, "json"):
        json.loads(text)


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {line.split()[1] for page in PAGES for line in commands(page) if line[:5] == "make "}
    assert named
    assert named <= targets
