"""Bulk jobs over HTTP: a gateway takes them in, a worker of the same process runs them."""

import asyncio
import gzip
import io
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet
import pytest
from httpx import AsyncClient

from app.errors import ModelNotReadyError, ModelOutputError
from app.gateway.drain import Drain
from app.gateway.main import create_app
from app.jobs.desk import JobDesk
from app.jobs.worker import Worker
from app.keys import create_key
from app.settings import Settings, load_settings
from tests.fakes import FakeRunners
from tests.waiting import until

CSV = {"Content-Type": "text/csv"}
FILE = "item_id,timestamp,target\na,2024-01-01,1\na,2024-02-01,3\nb,2024-01-01,7\nb,2024-02-01,8\n"
QUERY = {"model_name": "monthly", "horizon": "2", "quantile_levels": "0.1,0.5"}
SECRET = "whsec_" + "A" * 32


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "input").mkdir()
    return load_settings(
        jobs_directory=tmp_path / "jobs",
        jobs_input=tmp_path / "input",
        max_job_file_bytes=2**16,
        max_unfinished_jobs=3,
        webhook_secret=SECRET,
    )


@asynccontextmanager
async def working(settings: Settings, runners: FakeRunners) -> AsyncIterator[None]:
    """Run jobs until the block ends."""
    desk = JobDesk.open(settings)
    assert desk is not None
    task = asyncio.create_task(Worker(desk, runners, settings).work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def create(client: AsyncClient, **query: str) -> dict[str, Any]:
    answer = await client.post("/v1/jobs", content=FILE, headers=CSV, params=QUERY | query)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


async def wait_until_finished(client: AsyncClient, job_id: str) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while True:
            job: dict[str, Any] = (await client.get(f"/v1/jobs/{job_id}")).json()
            if job["finished_at"]:
                return job
            await asyncio.sleep(0.02)


async def test_job_gives_the_forecast_of_every_series(
    client: AsyncClient, settings: Settings, runners: FakeRunners
) -> None:
    async with working(settings, runners):
        job_id = (await create(client))["job_id"]
        job = await wait_until_finished(client, job_id)
    direct = await client.post(
        "/v1/models/monthly/forecast", content=FILE, headers=CSV, params=QUERY
    )
    result = await client.get(f"/v1/jobs/{job_id}/result")
    assert (job["state"], job["num_done"], job["num_series"]) == ("succeeded", 2, 2)
    assert result.headers["content-type"].startswith("text/csv")
    # The live answer says in a last column what was wrong with a series; a job has a file for that.
    live = [line.rpartition(",")[0] for line in direct.text.splitlines()]
    assert result.text.splitlines() == live
    assert (await client.get(f"/v1/jobs/{job_id}/errors")).text == ""


async def test_new_job_is_queued_and_says_where_it_is(client: AsyncClient) -> None:
    answer = await client.post("/v1/jobs", content=FILE, headers=CSV, params=QUERY)
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['job_id']}"
    assert (job["state"], job["num_series"], job["finished_at"]) == ("queued", None, None)
    assert (await client.get(answer.headers["location"])).json() == job


async def test_refused_series_are_listed_with_their_reasons(
    client: AsyncClient, settings: Settings, runners: FakeRunners
) -> None:
    body = FILE + "c,2024-01-01,\n"
    async with working(settings, runners):
        answer = await client.post("/v1/jobs", content=body, headers=CSV, params=QUERY)
        job = await wait_until_finished(client, answer.json()["job_id"])
    errors = await client.get(f"/v1/jobs/{job['job_id']}/errors")
    assert (job["state"], job["num_done"], job["num_refused"]) == ("succeeded", 3, 1)
    assert '"item_id":"c"' in errors.text


async def test_file_without_a_sound_series_fails_and_has_its_reasons(
    client: AsyncClient, settings: Settings, runners: FakeRunners
) -> None:
    runners.error = ModelOutputError("the model gave numbers that are not finite")
    async with working(settings, runners):
        job = await wait_until_finished(client, (await create(client))["job_id"])
    errors = await client.get(f"/v1/jobs/{job['job_id']}/errors")
    assert (job["state"], job["num_refused"]) == ("failed", 2)
    assert "none of the series" in job["error"]
    assert len(errors.text.splitlines()) == 2


async def test_wrong_cell_costs_its_series_alone(
    client: AsyncClient, settings: Settings, runners: FakeRunners
) -> None:
    async with working(settings, runners):
        body = FILE + "a,2024-03-01,many\n"
        answer = await client.post("/v1/jobs", content=body, headers=CSV, params=QUERY)
        job = await wait_until_finished(client, answer.json()["job_id"])
    errors = await client.get(f"/v1/jobs/{job['job_id']}/errors")
    assert (job["state"], job["num_done"], job["num_refused"]) == ("succeeded", 2, 1)
    assert "row 6" in errors.text


async def test_broken_file_fails_and_says_where(
    client: AsyncClient, settings: Settings, runners: FakeRunners
) -> None:
    async with working(settings, runners):
        body = FILE + "a,2024-03-01,1,2\n"
        answer = await client.post("/v1/jobs", content=body, headers=CSV, params=QUERY)
        job = await wait_until_finished(client, answer.json()["job_id"])
    result = await client.get(f"/v1/jobs/{job['job_id']}/result")
    assert job["state"] == "failed"
    assert "row 6" in job["error"]
    assert (result.status_code, result.json()["type"]) == (409, "job-conflict")


async def test_file_of_the_allowed_folder_is_forecast(
    client: AsyncClient, settings: Settings, runners: FakeRunners, tmp_path: Path
) -> None:
    (tmp_path / "input" / "sales").mkdir()
    (tmp_path / "input" / "sales" / "week.csv").write_text(FILE)
    body = {"model_name": "monthly", "path": "sales/week.csv", "output_format": "jsonl"}
    async with working(settings, runners):
        answer = await client.post("/v1/jobs", json=body)
        job = await wait_until_finished(client, answer.json()["job_id"])
    result = await client.get(f"/v1/jobs/{job['job_id']}/result")
    assert result.headers["content-type"] == "application/jsonl"
    assert len(result.text.splitlines()) == 2


@pytest.mark.parametrize(
    "path",
    [
        "../secret.csv",
        "/etc/passwd.csv",
        "sales/../../secret.csv",
        "link.csv",
        "linked/secret.csv",
        "missing.csv",
        "folder.csv",
        "pipe.csv",
        "./week.csv",
        "a\0.csv",
    ],
)
async def test_no_other_file_can_be_named(client: AsyncClient, tmp_path: Path, path: str) -> None:
    folder = tmp_path / "input"
    (tmp_path / "secret.csv").write_text(FILE)
    (folder / "link.csv").symlink_to(tmp_path / "secret.csv")
    (folder / "linked").symlink_to(tmp_path)
    (folder / "folder.csv").mkdir()
    os.mkfifo(folder / "pipe.csv")
    answer = await client.post("/v1/jobs", json={"model_name": "monthly", "path": path})
    assert answer.status_code in {400, 422}
    assert (await client.get("/v1/jobs")).json() == {"jobs": []}
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == ["jobs.sqlite"]


async def test_compressed_file_is_taken_in(
    client: AsyncClient, settings: Settings, runners: FakeRunners
) -> None:
    headers = CSV | {"Content-Encoding": "gzip"}
    body = gzip.compress(FILE.encode())
    async with working(settings, runners):
        answer = await client.post("/v1/jobs", content=body, headers=headers, params=QUERY)
        job = await wait_until_finished(client, answer.json()["job_id"])
    assert (job["state"], job["num_series"]) == ("succeeded", 2)


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (b"a" * (2**16 + 1), "identity", 413),
        (gzip.compress(b"a" * (2**16 + 1)), "gzip", 413),
        (gzip.compress(b"a" * 2**10)[:-1], "gzip", 400),
        (b"a", "br", 415),
    ],
    ids=["large", "large when decompressed", "cut off", "unknown encoding"],
)
async def test_nothing_stays_of_a_file_that_is_refused(
    client: AsyncClient, tmp_path: Path, body: bytes, encoding: str, status: int
) -> None:
    headers = CSV | {"Content-Encoding": encoding}
    answer = await client.post("/v1/jobs", content=body, headers=headers, params=QUERY)
    assert answer.status_code == status
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == ["jobs.sqlite"]


async def test_parquet_that_swells_ends_its_job(
    client: AsyncClient, settings: Settings, runners: FakeRunners
) -> None:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(
        pa.table({"target": pa.array(range(2**18), pa.float64())}),
        sink,
        use_dictionary=False,
        column_encoding={"target": "BYTE_STREAM_SPLIT"},
        compression="zstd",
    )
    headers = {"Content-Type": "application/vnd.apache.parquet"}
    async with working(settings, runners):
        answer = await client.post(
            "/v1/jobs", content=sink.getvalue(), headers=headers, params=QUERY
        )
        job = await wait_until_finished(client, answer.json()["job_id"])
    assert (job["state"], "decompressed" in job["error"]) == ("failed", True)


@pytest.mark.parametrize(
    ("query", "status", "word"),
    [
        ({"model_name": "none"}, 404, "no model of this name"),
        ({"model_version": "9"}, 404, "no such version"),
        ({"horizon": "99"}, 422, "horizon must be between 1 and 12"),
        ({"quantile_levels": "0.5,0.1"}, 422, "ascend"),
        ({"quantile_levels": "low"}, 422, "quantile_levels"),
        ({"freq": "D"}, 422, "M"),
        ({"freq": "never"}, 422, "freq"),
        ({"output_format": "xlsx"}, 422, "output_format"),
        ({"webhook_url": "http://example.com/"}, 422, "https://"),
        ({"webhook_url": "https://127.0.0.1/"}, 422, "private"),
    ],
)
async def test_what_can_not_be_done_is_refused_at_once(
    client: AsyncClient, query: dict[str, str], status: int, word: str
) -> None:
    answer = await client.post("/v1/jobs", content=FILE, headers=CSV, params=QUERY | query)
    assert (answer.status_code, word in answer.json()["detail"]) == (status, True), answer.text


async def test_model_must_be_named(client: AsyncClient) -> None:
    answer = await client.post("/v1/jobs", content=FILE, headers=CSV)
    assert (answer.status_code, "model_name" in answer.json()["detail"]) == (422, True)


async def test_other_charsets_are_refused(client: AsyncClient) -> None:
    headers = {"Content-Type": "text/csv; charset=windows-1252"}
    answer = await client.post("/v1/jobs", content=FILE, headers=headers, params=QUERY)
    assert (answer.status_code, "UTF-8" in answer.json()["detail"]) == (415, True)


async def test_repeated_request_gives_the_same_job(client: AsyncClient, tmp_path: Path) -> None:
    headers = CSV | {"Idempotency-Key": "monday"}
    answers = [
        await client.post("/v1/jobs", content=FILE, headers=headers, params=QUERY) for _ in range(2)
    ]
    other = await client.post("/v1/jobs", content=FILE + "\n", headers=headers, params=QUERY)
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json() == answers[1].json()
    assert (other.status_code, other.json()["type"]) == (422, "idempotency-key-reused")
    assert len([path for path in (tmp_path / "jobs").iterdir() if path.is_dir()]) == 1


async def test_key_has_only_so_many_unfinished_jobs(client: AsyncClient) -> None:
    for _ in range(3):
        await create(client)
    answer = await client.post("/v1/jobs", content=FILE, headers=CSV, params=QUERY)
    assert (answer.status_code, answer.json()["type"]) == (429, "too-many-jobs")
    assert int(answer.headers["retry-after"]) > 0


async def test_jobs_are_listed_newest_first(client: AsyncClient) -> None:
    created = [(await create(client))["job_id"] for _ in range(3)]
    listed = (await client.get("/v1/jobs", params={"limit": "2"})).json()["jobs"]
    older = (await client.get("/v1/jobs", params={"before": created[1]})).json()["jobs"]
    assert [job["job_id"] for job in listed] == created[:0:-1]
    assert [job["job_id"] for job in older] == created[:1]


async def test_running_job_is_cancelled(
    client: AsyncClient, settings: Settings, runners: FakeRunners, tmp_path: Path
) -> None:
    runners.gate.clear()
    async with working(settings, runners):
        job_id = (await create(client))["job_id"]
        await asyncio.wait_for(runners.arrived.wait(), 30)
        cancelled = await client.post(f"/v1/jobs/{job_id}/cancel")
        await until(lambda: not (tmp_path / "jobs" / job_id).exists())
    result = await client.get(f"/v1/jobs/{job_id}/result")
    assert cancelled.json()["state"] == "cancelled"
    assert runners.num_cancelled == 1
    assert (result.status_code, "cancelled" in result.json()["detail"]) == (409, True)


async def test_deleted_job_leaves_nothing(
    client: AsyncClient, settings: Settings, runners: FakeRunners, tmp_path: Path
) -> None:
    job_id = (await create(client))["job_id"]
    answer = await client.delete(f"/v1/jobs/{job_id}")
    async with working(settings, runners):
        await until(lambda: not (tmp_path / "jobs" / job_id).exists())
    assert answer.status_code == 204
    assert (await client.get(f"/v1/jobs/{job_id}")).status_code == 404
    assert (await client.delete(f"/v1/jobs/{job_id}")).status_code == 404


async def test_result_is_not_there_before_the_job_is_finished(client: AsyncClient) -> None:
    job_id = (await create(client))["job_id"]
    for name in ("result", "errors"):
        answer = await client.get(f"/v1/jobs/{job_id}/{name}")
        assert (answer.status_code, "queued" in answer.json()["detail"]) == (409, True)


async def test_cancelled_job_has_no_errors(client: AsyncClient) -> None:
    job_id = (await create(client))["job_id"]
    await client.post(f"/v1/jobs/{job_id}/cancel")
    answer = await client.get(f"/v1/jobs/{job_id}/errors")
    detail = (
        "the job is cancelled; its errors are there once it has succeeded or failed; a cancelled"
        " job has none"
    )
    assert (answer.status_code, answer.json()["detail"]) == (409, detail)


async def test_job_of_another_key_is_not_there(
    settings: Settings, runners: FakeRunners, tmp_path: Path
) -> None:
    keys = [create_key(), create_key()]
    (tmp_path / "keys").write_text("".join(f"{key.line}\n" for key in keys))
    app = create_app(
        settings.model_copy(update={"api_keys_file": tmp_path / "keys"}), runners, Drain()
    )
    mine, theirs = (
        AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://gatecast",
            headers={"X-API-Key": key.text},
        )
        for key in keys
    )
    path = f"/v1/jobs/{(await create(mine))['job_id']}"
    foreign = [
        await theirs.get(path),
        await theirs.get(f"{path}/result"),
        await theirs.get(f"{path}/errors"),
        await theirs.post(f"{path}/cancel"),
        await theirs.delete(path),
    ]
    assert [(one.status_code, one.json()["type"]) for one in foreign] == [
        (404, "job-not-found")
    ] * 5
    assert (await theirs.get("/v1/jobs")).json() == {"jobs": []}
    assert (await mine.get(path)).json()["state"] == "queued"


async def test_draining_gateway_takes_no_jobs(client: AsyncClient, drain: Drain) -> None:
    drain.begin()
    answer = await client.post("/v1/jobs", content=FILE, headers=CSV, params=QUERY)
    assert (answer.status_code, answer.json()["type"]) == (503, "shutting-down")


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/jobs"), ("GET", "/v1/jobs"), ("GET", "/v1/jobs/1"), ("DELETE", "/v1/jobs/1")],
)
async def test_without_a_folder_there_are_no_jobs(
    runners: FakeRunners, tmp_path: Path, method: str, path: str
) -> None:
    app = create_app(load_settings(model_repository=tmp_path), runners, Drain())
    async with AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gatecast") as one:
        answer = await one.request(method, path)
    assert (answer.status_code, answer.json()["type"]) == (404, "jobs-off")
    assert "GATECAST_JOBS_DIRECTORY" in answer.json()["detail"]


async def test_wrong_method_hears_of_all_that_a_path_takes(client: AsyncClient) -> None:
    assert (await client.put("/v1/jobs")).headers["allow"] == "GET, POST"


async def test_job_whose_model_was_replaced_fails(
    client: AsyncClient, settings: Settings, runners: FakeRunners
) -> None:
    job_id = (await create(client))["job_id"]
    runners.versions = [replace(version, digest="other") for version in runners.versions]
    async with working(settings, runners):
        job = await wait_until_finished(client, job_id)
    assert (job["state"], "not the file any more" in job["error"]) == ("failed", True)


async def test_job_waits_for_runners_that_are_away(
    client: AsyncClient, settings: Settings, runners: FakeRunners
) -> None:
    job_id = (await create(client))["job_id"]
    runners.is_up = False
    async with working(settings, runners):
        await asyncio.sleep(0.3)
        runners.is_up = True
        assert (await wait_until_finished(client, job_id))["state"] == "succeeded"


async def test_model_that_takes_its_runner_along_ends_the_job(
    client: AsyncClient, settings: Settings, runners: FakeRunners
) -> None:
    runners.error = ModelNotReadyError("the runner was lost; it is being replaced")
    async with working(settings, runners):
        job = await wait_until_finished(client, (await create(client))["job_id"])
    assert (job["state"], job["error"]) == ("failed", str(runners.error))
    assert len(runners.inferences) == 5
