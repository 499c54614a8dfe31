"""Bulk runs with a real service, and bulk runs that are killed."""

import asyncio
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import pytest_asyncio

from app.artifact.directory import MODEL_FILE
from app.bulk.remote import open_remote
from app.bulk.run import BulkRun
from app.errors import RemoteError
from app.keys import create_key
from tests.bulk_runs import EngineForecaster, options_for, write_monthly
from tests.e2e.flaky_proxy import LOST, flaky_proxy
from tests.e2e.service import serving

NUM_SERIES = 40
ROUNDING = 1e-5
SEED = 4

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Target:
    """A running service and a key to it."""

    url: str
    api_key: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def target(
    tiny_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Target]:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    key = create_key("bulk")
    keys.write_text(f"{key.line}\n")
    async with serving(tiny_repository, api_keys_file=keys, access_log=False) as service:
        yield Target(f"http://127.0.0.1:{service.port}", key.text)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_monthly(tmp_path / "data.parquet", NUM_SERIES)


@pytest.fixture(scope="module")
def model_file(tiny_repository: Path) -> Path:
    return tiny_repository / "tiny" / "1" / MODEL_FILE


async def run_here(source: Path, model_file: Path) -> Path:
    """Run without a service and without a disturbance; return the output."""
    options = options_for(source.parent, "here.parquet")
    forecaster = EngineForecaster(await asyncio.to_thread(model_file.read_bytes))
    await BulkRun(source, options, source.parent / "here", forecaster).run()
    return options.output


async def run_there(source: Path, url: str, api_key: str) -> Path:
    options = options_for(source.parent, "there.parquet")
    async with open_remote(url, "tiny", api_key=api_key) as forecaster:
        await BulkRun(source, options, source.parent / "there", forecaster).run()
    return options.output


def assert_equal_to_rounding(first: Path, second: Path) -> None:
    tables = [pyarrow.parquet.read_table(path) for path in (first, second)]
    assert tables[0].schema == tables[1].schema
    assert tables[0].select([0, 1]) == tables[1].select([0, 1])
    got, want = (np.stack([t[name].to_numpy() for name in t.column_names[2:]]) for t in tables)
    np.testing.assert_allclose(got, want, rtol=ROUNDING, atol=ROUNDING * np.abs(want).max())


async def test_service_gives_the_numbers_of_a_run_without_one(
    source: Path, model_file: Path, target: Target
) -> None:
    there = await run_there(source, target.url, target.api_key)
    assert_equal_to_rounding(await run_here(source, model_file), there)


async def test_busy_and_lost_answers_are_asked_for_again(
    source: Path, model_file: Path, target: Target
) -> None:
    options = options_for(source.parent, "there.parquet")
    with flaky_proxy(target.url) as proxy:
        async with open_remote(proxy.url, "tiny", api_key=target.api_key) as forecaster:
            proxy.faults.extend([503, LOST, 429, LOST, 502, 503])
            await BulkRun(source, options, source.parent / "there", forecaster).run()
        assert not proxy.faults
    assert_equal_to_rounding(await run_here(source, model_file), options.output)


async def test_requests_that_are_too_large_are_halved(
    source: Path, model_file: Path, target: Target
) -> None:
    with flaky_proxy(target.url, max_bytes=1000) as proxy:
        there = await run_there(source, proxy.url, target.api_key)
        assert proxy.num_forwarded > NUM_SERIES // 8 + 2
    assert_equal_to_rounding(await run_here(source, model_file), there)


@pytest.mark.parametrize(
    ("model_name", "api_key", "message"),
    [
        ("none", None, "404: no model of this name is served"),
        ("tiny", "wrong", "401: "),
    ],
    ids=["model", "key"],
)
async def test_refusal_of_the_service_is_one_line(
    target: Target, model_name: str, api_key: str | None, message: str
) -> None:
    with pytest.raises(RemoteError, match=message) as refusal:
        async with open_remote(target.url, model_name, api_key=api_key or target.api_key):
            pass
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:1", "can not reach http://127.0.0.1:1"),
        ("ftp://127.0.0.1", "no http"),
    ],
)
async def test_service_that_is_not_there_is_one_line(url: str, message: str) -> None:
    with pytest.raises(RemoteError, match=message):
        async with open_remote(url, "tiny"):
            pass


async def test_run_killed_at_any_moment_ends_with_the_same_bytes(
    source: Path, model_file: Path
) -> None:
    generator = random.Random(SEED)
    kills = [0, generator.randint(1, 4), 6]
    assert await run_with_kills(kills, model_file, source) == await bytes_here(source, model_file)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_run_killed_ten_times_ends_with_the_same_bytes(
    tmp_path: Path, model_file: Path
) -> None:
    source = write_monthly(tmp_path / "data.parquet", 400)
    generator = random.Random(SEED)
    kills = [generator.randint(0, 10) for _ in range(10)]
    assert await run_with_kills(kills, model_file, source) == await bytes_here(source, model_file)


async def bytes_here(source: Path, model_file: Path) -> bytes:
    output = await run_here(source, model_file)
    return await asyncio.to_thread(output.read_bytes)


async def run_with_kills(kills: Sequence[int], model_file: Path, source: Path) -> bytes:
    """Kill a run again and again, each time after so many lines, and return what it gives."""
    folder = source.parent
    for num_lines in kills:
        await asyncio.to_thread(kill_after, num_lines, model_file, source, folder)
    assert await asyncio.to_thread(finish, model_file, source, folder) == 0
    return await asyncio.to_thread((folder / "forecasts.parquet").read_bytes)


def start(model_file: Path, source: Path, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.bulk_runs", *map(str, (model_file, source, folder))]
    return subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: S603 - our own command


def finish(*arguments: Path) -> int:
    """Run undisturbed and return the exit status."""
    with start(*arguments) as process:
        process.communicate()
    return process.returncode


def kill_after(num_lines: int, *arguments: Path) -> None:
    """Start a run and kill it as soon as it has said that some chunks are done, if not before."""
    with start(*arguments) as process:
        assert process.stdout is not None
        for _ in range(num_lines):
            process.stdout.readline()
        process.kill()
