"""The client by itself, installed from its folder into an environment of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.service import serving

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
from gatecast_client import Client
with Client(sys.argv[1]) as client:
    print(client.forecast("tiny", [[1, 2, 3]], horizon=2).horizon)
"""


def run(*command: str | Path) -> str:
    result = subprocess.run(  # noqa: S603 - our own words
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.slow
async def test_installed_client_brings_no_server(tiny_repository: Path, tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    run(sys.executable, "-m", "venv", tmp_path)
    run(python, "-m", "pip", "install", "--quiet", "./clients/python")
    installed = run(python, "-m", "pip", "list", "--format=freeze")
    names = {line.partition("==")[0].lower() for line in installed.splitlines()}
    async with serving(tiny_repository) as service:
        output = run(python, "-I", "-c", SCRIPT, f"http://127.0.0.1:{service.port}")
    assert output.strip() == "2"
    assert "httpx" in names
    assert not names & {"gatecast", "fastapi", "numpy", "onnxruntime-gpu", "onnxruntime", "torch"}
