"""The README's commands, as written."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.service import COVERAGE_VARIABLES, serving

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
OTHER_MACHINE = 1e-3
"""Relative difference allowed between the printed answer and that of another kind of processor."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def lines_of(block: str) -> list[str]:
    return block.replace("\\\n", " ").strip().splitlines()


def run(line: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S602 - the README's own words
        line,
        shell=True,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | dict.fromkeys(COVERAGE_VARIABLES, ""),
    )


async def test_first_call_gets_the_printed_answer() -> None:
    (line,) = [line for line in lines_of(blocks("sh")[1]) if line.startswith("curl")]
    (printed,) = blocks("json")
    async with serving(ROOT / "model_repository") as service:
        result = run(line.replace(":8080", f":{service.port}"), ROOT)
    answer, expected = json.loads(result.stdout), json.loads(printed)
    forecast, wanted = answer["forecasts"][0], expected["forecasts"][0]
    assert forecast.keys() == wanted.keys()
    assert forecast["timestamps"] == wanted["timestamps"]
    for level, values in wanted["quantiles"].items():
        np.testing.assert_allclose(forecast["quantiles"][level], values, rtol=OTHER_MACHINE)


@pytest.mark.timeout(300)
async def test_train_export_and_serve_work_as_written(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (block,) = [block for block in blocks("sh") if "gatecast train" in block]
    commands = [line for line in lines_of(block) if not line.startswith("make")]
    *steps, serve = [shlex.split(line)[1:] for line in commands]
    for arguments in steps:
        result = run(shlex.join([sys.executable, "-m", "app", *arguments]), tmp_path)
        assert result.returncode == 0, result.stdout + result.stderr
    repository = tmp_path / serve[serve.index("--model-repository") + 1]
    async with serving(repository) as service:
        (line,) = [line for line in service.banner.splitlines() if line.startswith("try")]
        answer: dict[str, Any] = json.loads(run(line.removeprefix("try"), tmp_path).stdout)
    assert answer["model_name"] == "air"
    assert list(answer["forecasts"][0]["quantiles"]) == ["0.025", "0.5", "0.975"]


def test_commands_name_make_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"^make ([a-z]+)", README, re.MULTILINE))
    assert named
    assert named <= targets
