"""Runs Triton's perf_analyzer, unmodified, against a real service: ``make conformance``.

The tool is a binary in the wheel of tritonclient 2.45.0; it needs ``libb64`` from Debian and the
CUDA run-time library, but no GPU. All of it is unpacked into a temporary folder.
"""

import asyncio
import json
import math
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.client import Client
from tests.e2e.service import serving

WHEELS = ("tritonclient==2.45.0", "nvidia-cuda-runtime-cu12==12.9.79")
DEBIAN_PACKAGE = "libb64-0d"
LENGTHS = (24, 96, 48, 12, 90)
REPOSITORY = Path(__file__).parents[2] / "model_repository"
COMMON = ("--measurement-interval", "1500", "--stability-percentage", "80", "--max-trials", "3")
MODES = {
    "binary": ("--concurrency-range", "4"),
    "JSON answers": ("--concurrency-range", "4", "--output-tensor-format", "json"),
    "async": ("--concurrency-range", "8", "--async"),
    "rate": ("--request-rate-range", "50", "--request-distribution", "poisson"),
}
_TIMEOUT_S = 120


def main() -> None:
    """Download, run every mode, and fail if one does not run to its end."""
    with tempfile.TemporaryDirectory() as directory:
        tool = PerfAnalyzer.unpack(Path(directory))
        asyncio.run(run_modes(tool))


class PerfAnalyzer:
    """The unpacked tool.

    Args:
        directory: Where its parts and its input are.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._binary = next(directory.rglob("bin/perf_analyzer"))
        self._binary.chmod(0o755)
        self._data = directory / "data.json"
        self._data.write_text(json.dumps({"data": [_step(length) for length in LENGTHS]}))

    @classmethod
    def unpack(cls, directory: Path) -> "PerfAnalyzer":
        """Fetch the parts with pip and apt."""
        _call(sys.executable, "-m", "pip", "download", "-q", "--no-deps", *WHEELS, cwd=directory)
        for wheel in directory.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(directory)
        _call("apt-get", "-q", "download", DEBIAN_PACKAGE, cwd=directory)
        _call("dpkg-deb", "-x", *map(str, directory.glob("*.deb")), ".", cwd=directory)
        return cls(directory)

    async def run(self, port: int, options: Sequence[str]) -> str:
        """Run the tool to its end and return what it printed."""
        folders = {
            str(path.parent)
            for name in ("libb64.so*", "libcudart.so*")
            for path in self._directory.rglob(name)
        }
        process = await asyncio.create_subprocess_exec(
            *(str(self._binary), "-m", "monthly", "-u", f"127.0.0.1:{port}"),
            *("--input-data", str(self._data), *COMMON, *options),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=os.environ | {"LD_LIBRARY_PATH": ":".join(sorted(folders))},
        )
        output, _ = await asyncio.wait_for(process.communicate(), _TIMEOUT_S)
        if process.returncode:
            raise SystemExit(f"perf_analyzer failed:\n{output.decode()}")
        return output.decode()


async def run_modes(tool: PerfAnalyzer) -> None:
    """Run every mode against one service."""
    async with serving(REPOSITORY, access_log=False) as service:
        await _wait_until_ready(service.port)
        for name, options in MODES.items():
            output = await tool.run(service.port, options)
            if "Inference count" not in output:
                raise SystemExit(f"{name}: no statistics of the server:\n{output}")
            lines = [line.strip() for line in output.splitlines()]
            figures = [line for line in lines if line.startswith(("Throughput", "Inference count"))]
            sys.stdout.write(f"{name}: {'; '.join(figures)}\n")


async def _wait_until_ready(port: int) -> None:
    async with Client(port) as client:
        while (await client.get("/v2/health/ready")).status != 200:
            await asyncio.sleep(0.05)


def _step(length: int) -> dict[str, object]:
    return {"past_target": {"content": _wave(length), "shape": [length]}}


def _wave(length: int) -> list[float]:
    return [round(100 + 20 * math.sin(step / 2), 3) for step in range(length)]


def _call(*command: str, cwd: Path) -> None:
    subprocess.run(command, cwd=cwd, check=True)  # noqa: S603 - our own words


if __name__ == "__main__":
    main()
