"""Whatever the OpenAPI document allows or forbids, a real service never answers 5xx."""

import asyncio
import os
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

from app.gateway.task_routes import TASKS
from tests.e2e.client import Client
from tests.e2e.service import serving_at_full_speed, write_model
from tests.tiny_artifact import tiny_artifact
from tests.tiny_sequence_model import tiny_sequence_model

ROOT = Path(__file__).parents[2]
HOOKS = "tests.e2e.schemathesis_files"
NATIVE, DIALECTS = "--exclude-tag=dialects", "--include-tag=dialects"
LEAST_GOOD_SHARE = {NATIVE: 0.2, DIALECTS: 0.02}
"""A dialect's values must fit each other, which a document can not say: fewer are good."""

TASK = """
[[operations]]
include-path-regex = "/{task}$"

[operations.parameters]
model_name = "{task}"
"""
SCHEMATHESIS = """
seed = 1
continue-on-failure = true

[parameters]
model_name = "monthly"
model_version = 1
# one millisecond is allowed, and then 504 is the right answer
X-Request-Timeout-Ms = "20000"

[phases.coverage]
generate-duplicate-query-parameters = true
"""


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("selection", "max_examples", "least_cases"),
    [
        pytest.param(NATIVE, 25, 500, id="native, short"),
        pytest.param(NATIVE, 500, 2000, id="native", marks=pytest.mark.slow),
        pytest.param(DIALECTS, 500, 2000, id="dialects", marks=pytest.mark.slow),
    ],
)
async def test_fuzzed_service_never_answers_5xx(
    tmp_path: Path, selection: str, max_examples: int, least_cases: int
) -> None:
    write_model(tmp_path / "models", tiny_artifact(), name="monthly")
    for task in TASKS:
        write_model(tmp_path / "models", tiny_sequence_model(task, ("load",)), name=task)
    config = tmp_path / "schemathesis.toml"
    config.write_text("".join([SCHEMATHESIS, *(TASK.format(task=task) for task in TASKS)]))
    async with serving_at_full_speed(
        tmp_path / "models", access_log=False, jobs_directory=tmp_path / "jobs"
    ) as service:
        document = f"http://127.0.0.1:{service.port}/openapi.json"
        output = await _fuzz(document, config, selection, f"--max-examples={max_examples}")
        async with Client(service.port) as client:
            statuses = _count_statuses((await client.get("/metrics")).body.decode())
            assert (await client.get("/readyz")).status == 200
    assert statuses.total() >= least_cases, output
    assert not [status for status in statuses if status >= 500], output
    good = sum(count for status, count in statuses.items() if status < 300)
    assert good >= LEAST_GOOD_SHARE[selection] * statuses.total()


async def _fuzz(url: str, config: Path, *options: str) -> str:
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).parent / "st", "--config-file", config, "run", url,
        "--phases=examples,coverage,fuzzing", "--workers=1", *options,
        "--checks=not_a_server_error,status_code_conformance,content_type_conformance,"
        "response_schema_conformance", "--generation-deterministic",
        # 501: the models are fixed; the others are the same functions as without a version
        "--exclude-path-regex=/v2/repository/models/.*|/versions/[^/]*/(classify|regress|tag)$",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        cwd=config.parent,
        env=os.environ | {"SCHEMATHESIS_HOOKS": HOOKS, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


def _count_statuses(metrics: str) -> Counter[int]:
    counts: Counter[int] = Counter()
    for labels, count in re.findall(r"^gatecast_requests_total{(.*)} (\S+)$", metrics, re.M):
        status = re.search(r'status="(\d+)"', labels)
        assert status is not None
        counts[int(status[1])] += int(float(count))
    return counts
