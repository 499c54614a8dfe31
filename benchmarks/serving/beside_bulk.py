"""Live requests alone and beside bulk work on the same forecaster: what their priority is worth.

An open loop asks for a part of the capacity, so that its latency counts from when each request was
due. Beside it: a file over HTTP, a job, and a flood of tensors of the lowest priority, next to
which urgent tensors are sent. Every answer is checked, those of file and job as well.
"""

import asyncio
import io
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from app.artifact.golden_case import relative_error
from benchmarks.serving.forecaster import NAME, forecaster_file
from benchmarks.serving.load import (
    TOLERANCE,
    Figures,
    Request,
    difference_of,
    make_histories,
    native_requests,
    send_for,
    tensor_requests,
)
from benchmarks.serving.models import lstm_model
from benchmarks.serving.open_loop import OpenLoop, Outcome, Phase
from benchmarks.serving.rates import Bench, ClosedLoop, Row
from benchmarks.serving.raw import RawModel
from benchmarks.serving.servers import LOAD_CORE, Server, pinned, serving
from tests.e2e.client import Client

NUM_CLIENTS = 64
LENGTH = 96
LIVE = 0.3
"""Share of the capacity that live requests ask for."""
NUM_DIFFERENT = 128
"""Series of a file; beyond, they come again under other names."""
URGENT, PATIENT = 1, 3
PARQUET = {
    "content-type": "application/vnd.apache.parquet",
    "accept": "application/vnd.apache.parquet",
}

Bulk = Callable[[int], Coroutine[Any, Any, float]]
"""Forecasts so many series in bulk and returns the seconds that it took."""


@dataclass(frozen=True, slots=True)
class _Live:
    """Live requests: an open loop of ``rate`` requests a second."""

    server: Server
    requests: Sequence[Request]
    rate: float
    seconds: int

    async def send(self) -> Figures:
        """Send them, and check all answers."""
        phases = [Phase(self.rate, self.seconds)]
        return _account(await OpenLoop(self.server.port, self.requests, phases).run())

    async def send_beside(self, name: str, work: Bulk, num_series: int) -> Row:
        """Send them beside bulk work, of which a quarter is done alone before."""
        alone_s = await work(num_series // 4)
        working = asyncio.create_task(work(num_series))
        figures = await self.send()
        is_longer = not working.done()
        beside_s = await working
        return {
            f"live beside a {name}": figures,
            f"{name}, series/s": {
                "alone": round(num_series // 4 / alone_s),
                "beside live": round(num_series / beside_s),
                "lasted longer than the live requests": is_longer,
            },
        }


async def measure_beside_bulk(bench: Bench) -> Row:
    """Return figures of live requests alone and beside each kind of bulk work."""
    raw = RawModel.forecaster(forecaster_file().read_bytes())
    requests = native_requests(raw.run, NAME, LENGTH)
    jobs = f"--jobs-directory={bench.folder / 'jobs'}"
    async with serving("gatecast", forecaster_file(), jobs) as server:
        with pinned(LOAD_CORE):
            capacity = await _capacity(bench, server, requests)
            live = _Live(server, requests, LIVE * capacity, bench.seconds)
            work = _BulkWork(server, raw)
            num_series = round(capacity * bench.seconds)  # lasts longer: live requests go first
            row: Row = {
                "capacity, requests/s": round(capacity),
                "live requests ask for, share of capacity": LIVE,
                "live alone": await live.send(),
                **await live.send_beside("file", work.send_file, num_series),
                **await live.send_beside("job", work.run_job, num_series),
            }
    return row | {"tensors by priority": await _by_priority(bench)}


async def _capacity(bench: Bench, server: Server, requests: Sequence[Request]) -> float:
    load = ClosedLoop(requests, NUM_CLIENTS)
    await load.warm_up(server, bench.warm_up_s)
    return (await load.measure(server, bench.warm_up_s))["requests/s"]


def _account(outcomes: Sequence[Outcome]) -> Figures:
    """Check all answers, of which none may be missing, and return their latency."""
    for one in outcomes:
        assert one.status == 200, (one.status, one.body)
        head = one.head.replace(b"Content-Length", b"content-length")
        assert difference_of(one.request, head, one.body) < TOLERANCE
    p50, p99 = np.percentile([1000 * one.latency_s for one in outcomes], (50, 99))
    lag_s = np.percentile([one.lag_s for one in outcomes], 99)
    return {
        "requests": len(outcomes),
        "p50 ms": round(float(p50), 1),
        "p99 ms": round(float(p99), 1),
        "sender behind p99 ms": round(1000 * float(lag_s), 1),
    }


class _BulkWork:
    """Forecasts of many series at once, all compared with ONNX Runtime alone."""

    def __init__(self, server: Server, raw: RawModel) -> None:
        self._server = server
        self._histories = make_histories(NUM_DIFFERENT, LENGTH)
        self._expected = raw.run(self._histories)

    async def send_file(self, count: int) -> float:
        """Send a Parquet file and read the answer."""
        path = f"/v1/models/{NAME}/forecast"
        content = self._file(count)
        started = time.perf_counter()
        async with Client(self._server.port) as client:
            answer = await client.send("POST", path, content, PARQUET)
        spent_s = time.perf_counter() - started
        assert answer.status == 200, answer.body[:200]
        self._check(answer.body, count)
        return spent_s

    async def run_job(self, count: int) -> float:
        """Make a job and wait for its end; its time is that between its own stamps."""
        path = f"/v1/jobs?model_name={NAME}&output_format=parquet"
        async with Client(self._server.port) as client:
            made = await client.send("POST", path, self._file(count), PARQUET)
            assert made.status == 202, made.body[:200]
            job = made.json()
            while not job["finished_at"]:
                await asyncio.sleep(0.2)
                job = (await client.get(made.headers["location"])).json()
            assert job["state"] == "succeeded", job
            result = await client.get(f"{made.headers['location']}/result")
        self._check(result.body, count)
        spent = np.datetime64(job["finished_at"][:-1]) - np.datetime64(job["created_at"][:-1])
        return float(spent / np.timedelta64(1, "s"))

    def _file(self, count: int) -> bytes:
        targets = self._histories[np.arange(count) % NUM_DIFFERENT, :, 0]
        months = np.datetime64("2010-01", "M") + np.tile(np.arange(LENGTH), count)
        table = pa.table(
            {
                "item_id": np.repeat(np.arange(count), LENGTH).astype(str),
                "timestamp": months.astype("M8[us]"),
                "target": targets.astype(np.float64).round(2).reshape(-1),
            }
        )
        file = io.BytesIO()
        pyarrow.parquet.write_table(table, file)
        return file.getvalue()

    def _check(self, content: bytes, count: int) -> None:
        table = pyarrow.parquet.read_table(io.BytesIO(content))
        levels = [name for name in table.column_names if name.startswith("0.")]
        found = np.stack([table[name].to_numpy() for name in levels], axis=-1)
        expected = self._expected[np.arange(count) % NUM_DIFFERENT]
        names = table["item_id"].to_numpy(zero_copy_only=False)[:: expected.shape[1]]
        assert names.tolist() == [str(number) for number in range(count)]
        difference = relative_error(found.reshape(expected.shape), expected)
        assert difference < TOLERANCE, difference


async def _by_priority(bench: Bench) -> Row:
    """Send urgent tensors alone, and beside a flood of patient ones; then patient ones so."""
    path = bench.folder / "by priority" / "m" / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(lstm_model(128, has_lengths=True))
    run = RawModel.plain(128).run
    flood = tensor_requests(run, [LENGTH], priority=PATIENT)
    row: Row = {}
    async with serving("gatecast", path) as server:
        with pinned(LOAD_CORE):
            capacity = await _capacity(bench, server, flood)
            for name, priority in (("urgent", URGENT), ("as patient as the flood", PATIENT)):
                requests = tensor_requests(run, [LENGTH], priority=priority)
                live = _Live(server, requests, LIVE * capacity, bench.seconds)
                row[f"{name}, alone"] = await live.send()
                row[f"{name}, beside a flood"], flooding = await asyncio.gather(
                    live.send(), send_for(bench.seconds, server.port, flood, NUM_CLIENTS)
                )
                row[f"flood beside what is {name}, requests/s"] = round(
                    flooding["requests"] / flooding["seconds"]
                )
    return row
