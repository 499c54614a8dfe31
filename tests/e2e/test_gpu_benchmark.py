"""The benchmark for a GPU runs through on a machine without one."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_every_section_is_measured_on_the_cpu(tmp_path: Path) -> None:
    output = tmp_path / "gpu.json"
    command = ["-m", "benchmarks.gpu", "--device", "cpu", "--quick", "--output", str(output)]
    process = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=ROOT)
    assert await process.wait() == 0
    content = json.loads(output.read_text())
    assert content["environment"]["device"] == "cpu"
    assert all(content["sections"].values())
    rows = [row for rows in content["sections"].values() for row in rows]
    assert {"failed", "left out"}.isdisjoint(key for row in rows for key in row)
    assert all(row.get("within", True) for row in rows)
    assert sum(row.get("wrong", 0) + row.get("lost", 0) for row in rows) == 0
