"""The Python client against a real service."""

import asyncio
import datetime as dt
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd
import polars as pl
import pytest
import pytest_asyncio
from typing_extensions import override

from app.keys import create_key
from gatecast_client import (
    AsyncClient,
    Client,
    Columns,
    ProblemError,
    RetryPolicy,
    Series,
    SeriesRefusedError,
    UnreachableError,
)
from tests.e2e.service import Service, serving

if TYPE_CHECKING:
    from gatecast_client.requests import Values

Found = TypeVar("Found")
TARGET = [50 + 10 * math.sin(step) for step in range(36)]
LEVELS = [0.1, 0.5, 0.9]
SHARED = pytest.mark.asyncio(loop_scope="module")
"""For tests that leave the service as it was, and so share one."""
SERVER_PACKAGES = (
    "fastapi",
    "starlette",
    "onnxruntime",
    "torch",
    "numpy",
    "app",
    "pandas",
    "polars",
)


def address(service: Service) -> str:
    return f"http://127.0.0.1:{service.port}"


@asynccontextmanager
async def service_and_client(
    repository: Path, **settings: object
) -> AsyncIterator[tuple[Service, AsyncClient]]:
    async with (
        serving(repository, **settings) as service,
        AsyncClient(address(service)) as client,
    ):
        yield service, client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tiny_repository: Path) -> AsyncIterator[Service]:
    async with serving(tiny_repository) as service:
        yield service


async def block(service: Service, call: Callable[[Client], Found]) -> Found:
    """Use the blocking client in a thread."""

    def run() -> Found:
        with Client(address(service)) as client:
            return call(client)

    return await asyncio.to_thread(run)


def rows() -> dict[str, list[Any]]:
    """Return two series, rows out of order and a gap in the second one."""
    stamps = [dt.datetime(2020 + n // 12, n % 12 + 1, 1) for n in range(36)]
    first = [("a", stamp, value) for stamp, value in zip(stamps, TARGET, strict=True)]
    second = [("b", stamp, value + 5) for stamp, value in zip(stamps, TARGET, strict=True)]
    table = [*reversed(first), *second[:7], *second[8:]]
    return {
        "item_id": [row[0] for row in table],
        "timestamp": [row[1] for row in table],
        "target": [row[2] for row in table],
    }


@SHARED
async def test_both_clients_give_the_same_forecasts(service: Service) -> None:
    series: list[Series | Values] = [
        TARGET,
        Series(target=[*TARGET[:9], None, math.nan], item_id="b", start="2024-01-01"),
        [],
    ]
    async with AsyncClient(address(service)) as client:
        found = await client.forecast("tiny", series, horizon=3, quantile_levels=LEVELS)
        same = await block(
            service, lambda c: c.forecast("tiny", series, horizon=3, quantile_levels=LEVELS)
        )
        version = await client.forecast("tiny", [TARGET], model_version=1)
    first, second, third = found.forecasts
    assert found == same
    assert (found.model_name, found.model_version, found.horizon) == ("tiny", 1, 3)
    assert list(first.quantiles) == LEVELS
    assert (first.timestamps, first.error) == (None, None)
    assert (second.item_id, second.timestamps) == ("b", ("2024-12-01", "2025-01-01", "2025-02-01"))
    assert third.error is not None
    assert third.error.pointer == "/series/2/target"
    assert version.horizon == 6


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
@SHARED
async def test_table_comes_back_in_its_library(
    service: Service, make: Callable[[Any], Any]
) -> None:
    given = make(rows())
    async with AsyncClient(address(service)) as client:
        found = await client.forecast_table("tiny", given, horizon=2, quantile_levels=LEVELS)
        same = await block(
            service,
            lambda c: c.forecast_table("tiny", given, horizon=2, quantile_levels=LEVELS),
        )
        gap = [value + 5 if step != 7 else None for step, value in enumerate(TARGET)]
        want = await client.forecast("tiny", [TARGET, gap], horizon=2, quantile_levels=LEVELS)
    assert type(found) is type(given)
    assert found.equals(same)
    assert list(found.columns) == ["item_id", "timestamp", "0.1", "0.5", "0.9"]
    assert found["item_id"].to_list() == ["a", "a", "b", "b"]
    stamps = [value.isoformat() for value in found["timestamp"].to_list()]
    assert stamps == ["2023-01-01T00:00:00", "2023-02-01T00:00:00"] * 2
    medians = [value for one in want.forecasts for value in one.quantiles[0.5]]
    assert found["0.5"].to_list() == medians


@SHARED
async def test_columns_may_have_other_names_and_stamps_be_dates(service: Service) -> None:
    columns = Columns(item_id="unique_id", timestamp="ds", target="y")
    table = pl.DataFrame(
        {
            "unique_id": [7] * 36,
            "ds": [dt.date(2020 + n // 12, n % 12 + 1, 1) for n in range(36)],
            "y": TARGET,
        }
    )
    async with AsyncClient(address(service)) as client:
        found = await client.forecast_table("tiny", table, columns=columns)
    assert found["unique_id"].to_list() == [7] * 6
    assert found["ds"].to_list()[0] == dt.date(2023, 1, 1)


@SHARED
async def test_wrong_tables_name_the_series(service: Service) -> None:
    stamps = ["2024-01-01", "2024-02-01"]

    def table(stamps: list[str], target: list[float | None]) -> pd.DataFrame:
        return pd.DataFrame({"item_id": "x", "timestamp": stamps, "target": target})

    wrong = {
        "comes twice": table(["2024-01-01", "2024-01-01"], [1, 2]),
        "not on the grid of M": table(["2024-01-01", "2024-02-15"], [1, 2]),
        "it has no value": table(stamps, [None, None]),
        "magnitude": pd.concat(
            [table(stamps, [1, 1e39]), table(stamps, [1, 2]).assign(item_id="good")]
        ),
    }
    async with AsyncClient(address(service)) as client:
        for sentence, given in wrong.items():
            with pytest.raises(SeriesRefusedError, match=f"series x: .*{sentence}"):
                await client.forecast_table("tiny", given)


async def test_problems_carry_what_the_service_said(tiny_repository: Path, tmp_path: Path) -> None:
    key = create_key()
    keys = tmp_path / "keys"
    keys.write_text(f"{key.line}\n")
    async with service_and_client(tiny_repository, api_keys_file=keys) as (service, client):
        with pytest.raises(ProblemError, match="401 unauthorized"):
            await client.models()
        async with AsyncClient(address(service), api_key=key.text) as known:
            assert [model["model_name"] for model in await known.models()] == ["tiny"]
            with pytest.raises(ProblemError) as caught:
                await known.forecast("tiny", [TARGET], horizon=100)
            assert (await known.describe("tiny"))["card"]["horizon"] == 6
    assert (caught.value.status, caught.value.type) == (422, "invalid-input")
    assert caught.value.errors[0]["pointer"] == "/horizon"
    assert caught.value.request_id


async def test_calls_outlive_the_loss_of_the_runner(tiny_repository: Path) -> None:
    patient = RetryPolicy(max_attempts=60)
    async with (
        serving(tiny_repository) as service,
        AsyncClient(address(service), retries=patient) as client,
    ):
        os.kill(service.runners[0], signal.SIGKILL)
        answers = await asyncio.gather(*(client.forecast("tiny", [TARGET]) for _ in range(20)))
    assert len({tuple(answer.forecasts[0].quantiles[0.5]) for answer in answers}) == 1


async def test_nobody_there_is_told(tiny_repository: Path) -> None:
    impatient = RetryPolicy(max_attempts=2, backoff_s=0.01)
    async with serving(tiny_repository) as service:
        port = service.port
    with (
        Client(f"http://127.0.0.1:{port}", retries=impatient) as client,
        pytest.raises(UnreachableError, match="ConnectError"),
    ):
        client.models()
    async with AsyncClient(f"http://127.0.0.1:{port}", retries=impatient) as other:
        with pytest.raises(UnreachableError, match="ConnectError"):
            await other.models()


def test_client_needs_nothing_of_the_server() -> None:
    script = "import sys, gatecast_client; print(' '.join(sys.modules))"
    result = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in result.stdout.split()}
    assert "gatecast_client" in loaded
    assert not loaded.intersection(SERVER_PACKAGES)


class _LoginPage(BaseHTTPRequestHandler):
    @override
    def log_message(self, format: str, *args: object) -> None:
        return

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>Please log in</html>")


async def test_answer_of_something_else_is_told() -> None:
    with HTTPServer(("127.0.0.1", 0), _LoginPage) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        try:
            with Client(url) as client, pytest.raises(ProblemError, match=r"200 .* no JSON"):
                client.models()
            async with AsyncClient(url) as other:
                with pytest.raises(ProblemError, match="login page"):
                    await other.models()
        finally:
            server.shutdown()
            thread.join()
