"""Measures a bulk job beside live requests: python -m benchmarks.jobs [NUM_SERIES].

The limit is ONNX Runtime alone: the batches of the job straight through one session per core,
before the job and after it, in the same run, since machines are shared. Then the same job runs
again beside one caller who asks for one series at a time. Prints figures and writes
benchmarks/results/jobs.json.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from app.cores import count_cores
from benchmarks.bulk import REPOSITORY, ROOT, Figures, record_batches, run_raw, write_file
from benchmarks.environment import describe_environment
from tests.e2e.client import Client
from tests.e2e.service import Service, serving

RESULTS = ROOT / "benchmarks" / "results" / "jobs.json"
NUM_SERIES = 100_000
PARQUET = {"content-type": "application/vnd.apache.parquet"}
CREATE = "/v1/jobs?model_name=monthly"
LIVE = "/v1/models/monthly/forecast"
BODY = {"series": [{"target": [float(100 + step % 12) for step in range(48)]}]}
NUM_LIVE = 500
PAUSE_S = 0.02


async def start(client: Client, data: bytes) -> str:
    """Begin a job and return its path."""
    answer = await client.send("POST", CREATE, data, PARQUET)
    assert answer.status == 202, answer.body
    return answer.headers["location"]


async def wait_for_progress(client: Client, path: str) -> None:
    """Return once some of a job is done."""
    async with asyncio.timeout(600):
        while True:
            if (await client.get(path)).json()["num_done"]:
                return
            await asyncio.sleep(0.05)


async def finish(client: Client, path: str) -> float:
    """Return the seconds from the making of a job to its end."""
    while True:
        job = (await client.get(path)).json()
        if job["finished_at"]:
            assert job["state"] == "succeeded", job
            spent = np.datetime64(job["finished_at"][:-1]) - np.datetime64(job["created_at"][:-1])
            return float(spent / np.timedelta64(1, "s"))
        await asyncio.sleep(0.2)


async def time_live(client: Client) -> tuple[float, float]:
    """Return the median and the 99th percentile of one caller's latency, in milliseconds."""
    spent = []
    for _ in range(NUM_LIVE):
        started = time.perf_counter()
        answer = await client.post(LIVE, BODY)
        spent.append((time.perf_counter() - started) * 1000)
        assert answer.status == 200
        await asyncio.sleep(PAUSE_S)
    return float(np.percentile(spent, 50)), float(np.percentile(spent, 99))


def peak_mib(service: Service) -> float:
    """Return the most memory that the worker had in use."""
    (worker,) = service.children("app.jobs.worker")
    lines = Path(f"/proc/{worker}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1024


async def measure(num_series: int, folder: Path) -> Figures:
    """Measure everything in one run."""
    data, small, cores = folder / "data.parquet", folder / "small.parquet", count_cores()
    write_file(data, num_series)
    write_file(small, num_series // 10)
    batches, _ = await record_batches(data, folder)
    first = run_raw(batches, cores)
    settings = {"runners": cores, "access_log": False, "jobs_directory": folder / "jobs"}
    async with serving(REPOSITORY, **settings) as service, Client(service.port) as client:
        await finish(client, await start(client, small.read_bytes()))
        of_small = peak_mib(service)
        job_s = await finish(client, await start(client, data.read_bytes()))
        peak = peak_mib(service)
        alone = await time_live(client)
        path = await start(client, data.read_bytes())
        await wait_for_progress(client, path)
        beside = await time_live(client)
        still_running = (await client.get(path)).json()["state"] == "running"
    second = run_raw(batches, cores)
    limit_s = (first.wall_s + second.wall_s) / 2
    return {
        "series": num_series,
        "cores": cores,
        "raw ONNX Runtime, series/s, before": round(num_series / first.wall_s),
        "raw ONNX Runtime, series/s, after": round(num_series / second.wall_s),
        "job, series/s": round(num_series / job_s),
        "share of the raw limit": round(limit_s / job_s, 3),
        "peak memory of the worker, MiB": round(peak),
        "peak memory of the worker with a tenth of the series, MiB": round(of_small),
        "live latency alone, p50, ms": round(alone[0], 1),
        "live latency alone, p99, ms": round(alone[1], 1),
        "live latency beside a job, p50, ms": round(beside[0], 1),
        "live latency beside a job, p99, ms": round(beside[1], 1),
        "the job ran all that time": str(still_running),
        "load of the machine, 1 min": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    """Measure, print and record."""
    num_series = int(sys.argv[1]) if len(sys.argv) > 1 else NUM_SERIES
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure(num_series, Path(folder)))
    report = {"environment": describe_environment(("pyarrow",)), "figures": figures}
    text = json.dumps(report, indent=2)
    print(text)
    RESULTS.write_text(f"{text}\n")


if __name__ == "__main__":
    main()
