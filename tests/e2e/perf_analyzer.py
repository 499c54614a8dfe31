"""Runs Triton's perf_analyzer, unmodified, against a real service: ``make conformance``.

The tool is a binary in the wheel of tritonclient 2.45.0; it needs ``libb64`` from Debian and the
CUDA run-time library, but no GPU. All of it is unpacked into a temporary folder; where that can not
be had, nothing is run and the reason is printed.

JSON is sent to the plain model alone, and with its batch on axis 0. The tool crashes on every FP64
tensor in a JSON answer, whoever the server is, and forecasters have one; and it writes as many
numbers of a JSON tensor as one row has, taking axis 0 for the batch.
"""

import asyncio
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.e2e.client import Client
from tests.e2e.service import serving, write_model
from tests.plain_models import INPUT_SIZE, lstm_model

WHEELS = ("tritonclient==2.45.0", "nvidia-cuda-runtime-cu12==12.9.79")
DEBIAN_PACKAGE = "libb64-0d"
LENGTHS = (24, 96, 48, 12, 90)
STARTER = Path(__file__).parents[2] / "model_repository" / "monthly"
COMMON = ("--measurement-interval", "600", "--stability-percentage", "999", "--max-trials", "3")
JSON = ("--input-tensor-format", "json", "--output-tensor-format", "json")

Modes = Mapping[str, Mapping[str, Sequence[str]]]
"""Options by model and name."""

MODES: Modes = {
    "monthly": {
        "default": (),
        "binary": ("--concurrency-range", "4"),
        "async": ("--concurrency-range", "8", "--async"),
        "rate": ("--request-rate-range", "50", "--request-distribution", "poisson"),
    },
    "plain": {
        "binary": ("--concurrency-range", "4"),
        "JSON": ("--concurrency-range", "4", *JSON),
        "JSON, async": ("--concurrency-range", "4", "--async", *JSON),
    },
}
_SEQUENCES = ("--concurrency-range", "8", "--sequence-length", "6")
SEQUENCE_MODES: Modes = {
    "monthly": {"sequences": _SEQUENCES},
    "plain": {"sequences": _SEQUENCES, "sequences, JSON": (*_SEQUENCES, *JSON)},
}
_TIMEOUT_S = 60
_FETCH_TIMEOUT_S = 90


class UnavailableError(Exception):
    """The tool can not be had here."""


def main() -> None:
    """Fetch the tool and run every mode; fail if one does not run to its end."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        try:
            tool = PerfAnalyzer.unpack(directory / "tool")
        except UnavailableError as error:
            sys.stdout.write(f"perf_analyzer was not run: {error}\n")
            return
        repository = directory / "repository"
        shutil.copytree(STARTER, repository / STARTER.name)
        write_model(repository, lstm_model(is_batch_first=True), "plain")
        asyncio.run(run_modes(tool, repository, MODES))
        asyncio.run(run_modes(tool, repository, SEQUENCE_MODES, declare_sequences=True))
    sys.stdout.write(f"perf_analyzer ran every mode in {time.monotonic() - started:.0f} s\n")


class PerfAnalyzer:
    """The unpacked tool.

    Args:
        directory: Where its parts and its input are.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._binary = next(directory.rglob("bin/perf_analyzer"))
        self._binary.chmod(0o755)
        for model_name, steps in (("monthly", _series()), ("plain", _vectors())):
            path = directory / f"{model_name}.json"
            path.write_text(json.dumps({"data": list(steps)}))

    @classmethod
    def unpack(cls, directory: Path) -> "PerfAnalyzer":
        """Fetch the parts with pip and apt.

        Raises:
            UnavailableError: This is no Debian on x86-64, or a registry can not be reached.
        """
        if (sys.platform, platform.machine()) != ("linux", "x86_64"):
            raise UnavailableError("it is a program for Linux on x86-64")
        if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
            raise UnavailableError("a library that it needs comes with apt, which is not here")
        directory.mkdir()
        pip = (sys.executable, "-m", "pip", "download", "--quiet", "--retries=1", "--no-deps")
        _fetch(*pip, *WHEELS, cwd=directory)
        for wheel in directory.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(directory)
        try:
            _fetch("apt-get", "-q", "download", DEBIAN_PACKAGE, cwd=directory)
        except UnavailableError:  # a fresh container does not know any package yet
            _fetch("apt-get", "-q", "update", cwd=directory)
            _fetch("apt-get", "-q", "download", DEBIAN_PACKAGE, cwd=directory)
        _fetch("dpkg-deb", "-x", *map(str, directory.glob("*.deb")), ".", cwd=directory)
        return cls(directory)

    async def run(self, model_name: str, port: int, options: Sequence[str]) -> str:
        """Run the tool to its end and return what it printed."""
        folders = {
            str(path.parent)
            for name in ("libb64.so*", "libcudart.so*")
            for path in self._directory.rglob(name)
        }
        data = self._directory / f"{model_name}.json"
        process = await asyncio.create_subprocess_exec(
            *(str(self._binary), "-m", model_name, "-u", f"127.0.0.1:{port}"),
            *("--input-data", str(data), *COMMON, *options),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=os.environ | {"LD_LIBRARY_PATH": ":".join(sorted(folders))},
        )
        output, _ = await asyncio.wait_for(process.communicate(), _TIMEOUT_S)
        if process.returncode:
            raise SystemExit(f"perf_analyzer failed with {options}:\n{output.decode()}")
        return output.decode()


async def run_modes(tool: PerfAnalyzer, repository: Path, modes: Modes, **settings: object) -> None:
    """Run every mode against one service."""
    async with serving(repository, access_log=False, **settings) as service:
        await _wait_until_ready(service.port)
        for model_name, options_by_name in modes.items():
            for name, options in options_by_name.items():
                output = await tool.run(model_name, service.port, options)
                if "Inference count" not in output:
                    raise SystemExit(f"{name}: no statistics of the server:\n{output}")
                sys.stdout.write(f"{model_name}, {name}: {_figures(output)}\n")


async def _wait_until_ready(port: int) -> None:
    async with Client(port) as client:
        while (await client.get("/v2/health/ready")).status != 200:
            await asyncio.sleep(0.05)


def _figures(output: str) -> str:
    lines = [line.strip() for line in output.splitlines()]
    return "; ".join(line for line in lines if line.startswith(("Throughput", "Inference count")))


def _series() -> Iterator[dict[str, object]]:
    for length in LENGTHS:
        content = [round(100 + 20 * math.sin(step / 2), 3) for step in range(length)]
        yield {"past_target": {"content": content, "shape": [length]}}


def _vectors() -> Iterator[dict[str, object]]:
    for length in LENGTHS:
        content = [round(math.sin(step / 3), 3) for step in range(length * INPUT_SIZE)]
        yield {"X": {"content": content, "shape": [1, length, INPUT_SIZE]}}


def _fetch(*command: str, cwd: Path) -> None:
    try:
        subprocess.run(  # noqa: S603 - our own words
            command, cwd=cwd, check=True, capture_output=True, timeout=_FETCH_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise UnavailableError(f"`{' '.join(command)[:80]}...` failed here") from error


if __name__ == "__main__":
    main()
