"""A client that is generated from the service's own OpenAPI document."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from app.gateway.file_forecast import ANSWER_TYPES
from app.gateway.file_types import MEDIA_TYPES
from tests.e2e.client import Client
from tests.e2e.service import serving

SCRIPT = """
import asyncio, sys
from generated import Client
from generated.api.forecast import forecast
from generated.api.models import describe_model
from generated.models import ForecastRequest, ForecastResponse, ModelDescription, Problem, Series

series = [Series(target=[1.0, 2.0, None, 4.0], start="2024-01-01"), Series(target=[])]
body = ForecastRequest(series=series, horizon=2, quantile_levels=[0.5])
with Client(base_url=sys.argv[1]) as client:
    answer = forecast.sync("tiny", client=client, body=body)
    problem = forecast.sync("other", client=client, body=body)
    model = describe_model.sync("tiny", client=client)

async def again():
    async with Client(base_url=sys.argv[1]) as client:
        return await forecast.asyncio("tiny", client=client, body=body)

assert isinstance(answer, ForecastResponse), answer
assert isinstance(problem, Problem) and problem.type_ == "model-not-found", problem
assert isinstance(model, ModelDescription) and model.card.horizon == 6, model
assert asyncio.run(again()) == answer
first, second = answer.forecasts
assert first.timestamps == ["2024-05-01", "2024-06-01"], first
assert second.error.pointer == "/series/1/target", second
print(*first.quantiles["0.5"])
"""


FILES = dict.fromkeys(MEDIA_TYPES | ANSWER_TYPES, "application/octet-stream")
"""Bodies that the generator is told to take as bytes: it knows neither CSV nor Parquet."""


def run(*command: str, directory: Path) -> str:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(directory),
    }
    result = subprocess.run(  # noqa: S603 - our own words
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


async def test_generated_client_forecasts(tiny_repository: Path, tmp_path: Path) -> None:
    generate = (
        "openapi-python-client", "generate", "--path=openapi.json", "--output-path=generated",
        "--meta=none", "--fail-on-warning", "--config=config.json",
    )  # fmt: skip
    async with serving(tiny_repository) as service:
        async with Client(service.port) as client:
            document = (await client.get("/openapi.json")).body
            body = {"series": [{"target": [1, 2, None, 4]}], "horizon": 2, "quantile_levels": [0.5]}
            native = (await client.post("/v1/models/tiny/forecast", body)).json()
        (tmp_path / "openapi.json").write_bytes(document)
        (tmp_path / "config.json").write_text(json.dumps({"content_type_overrides": FILES}))
        await asyncio.to_thread(run, *generate, directory=tmp_path)
        address = f"http://127.0.0.1:{service.port}"
        output = await asyncio.to_thread(
            run, sys.executable, "-c", SCRIPT, address, directory=tmp_path
        )
    want = native["forecasts"][0]["quantiles"]["0.5"]
    assert [float(number) for number in output.split()] == want
