import io
import json
import logging
from collections.abc import Iterator

import pytest
from httpx import AsyncClient
from prometheus_client import REGISTRY

from app.gateway.drain import Drain
from app.logs import configure_logging, make_handler
from app.settings import load_settings
from tests.api.raw import FORECAST_PATH
from tests.captured_log import captured_log, lines_of
from tests.fakes import FakeRunners

SECRET = 9177.25
ONE = {"series": [{"item_id": "Kettle", "target": [SECRET]}]}


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    with captured_log(make_handler) as stream:
        yield stream


async def test_sane_request_id_is_kept(client: AsyncClient) -> None:
    answer = await client.get("/livez", headers={"X-Request-ID": "order-17.a_b"})
    assert answer.headers["x-request-id"] == "order-17.a_b"


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, 'x"y', "<script>"])
async def test_other_request_ids_are_replaced(client: AsyncClient, given: str) -> None:
    answer = await client.get("/livez", headers={"X-Request-ID": given})
    assert len(answer.headers["x-request-id"]) == 32


async def test_one_line_per_request(client: AsyncClient, log: io.StringIO) -> None:
    answer = await client.post(FORECAST_PATH, json=ONE, headers={"X-Request-ID": "r1"})
    (line,) = lines_of(log)
    assert line["route"] == "/v1/models/{model_name}/forecast"
    assert (line["method"], line["status"], line["request_id"]) == ("POST", 200, "r1")
    assert (line["bytes"], line["model_name"]) == (len(answer.content), "monthly")
    assert line["duration_ms"] > 0
    assert line["timestamp"].endswith(("Z", "+00:00"))


async def test_log_holds_neither_numbers_nor_names_of_series(
    client: AsyncClient, log: io.StringIO
) -> None:
    await client.post(FORECAST_PATH, json=ONE)
    await client.post(FORECAST_PATH, json={"series": [{"target": [SECRET, "x"]}]})
    assert str(SECRET) not in log.getvalue()
    assert "Kettle" not in log.getvalue()


async def test_failure_is_logged_with_traceback_and_request_id(
    client: AsyncClient, runners: FakeRunners, log: io.StringIO
) -> None:
    runners.error = ZeroDivisionError("boom")
    await client.post(FORECAST_PATH, json=ONE, headers={"X-Request-ID": "r2"})
    failure, access = lines_of(log)
    assert "Traceback" in failure["exception"]
    assert (failure["request_id"], access["status"]) == ("r2", 500)


async def test_raw_paths_are_no_labels(client: AsyncClient) -> None:
    await client.post("/v1/models/never-served-42/forecast", json=ONE)
    await client.get("/never-served-43")
    text = (await client.get("/metrics")).text
    assert "never-served" not in text
    assert 'route="unmatched"' in text


async def test_requests_and_series_are_counted(client: AsyncClient) -> None:
    version = {"model_name": "monthly", "model_version": "2"}
    labels = {"route": "/v1/models/{model_name}/forecast", "status": "200"} | version
    refused = {"outcome": "refused"} | version

    def counts() -> list[float]:
        return [
            REGISTRY.get_sample_value("gatecast_requests_total", labels) or 0.0,
            REGISTRY.get_sample_value("gatecast_series_total", refused) or 0.0,
        ]

    before = counts()
    await client.post(FORECAST_PATH, json={"series": [{"target": [1]}, {"target": []}]})
    assert counts() == [before[0] + 1, before[1] + 1]


@pytest.mark.parametrize("path", ["/livez", "/v1/models", "/nope", "/docs", "/"])
async def test_draining_tells_every_caller_to_close(
    client: AsyncClient, drain: Drain, path: str
) -> None:
    assert "connection" not in (await client.get(path)).headers
    drain.begin()
    assert (await client.get(path)).headers["connection"] == "close"


async def test_draining_still_answers_forecasts(client: AsyncClient, drain: Drain) -> None:
    drain.begin()
    assert (await client.post(FORECAST_PATH, json=ONE)).status_code == 200


@pytest.mark.parametrize("path", ["/livez", "/v1/models", "/nope", "/docs", "/", FORECAST_PATH])
async def test_every_answer_has_safe_headers(client: AsyncClient, path: str) -> None:
    headers = (await client.get(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]


def test_logging_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    configure_logging(load_settings(log_level="warning"))
    logging.getLogger("gatecast.test").info("not this")
    logging.getLogger("gatecast.test").warning("but this")
    root.handlers[:] = before
    root.setLevel(level)
    line = json.loads(capsys.readouterr().err)
    assert (line["level"], line["message"]) == ("WARNING", "but this")
