import inspect
import json
import logging

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from app import errors
from app.gateway.problems import PROBLEM_KINDS
from tests.api.raw import FORECAST_PATH, call
from tests.fakes import FakeRunners

ONE = {"series": [{"target": [1, 2, 3]}]}


def test_every_error_has_a_row() -> None:
    classes = {
        member
        for _, member in inspect.getmembers(errors, inspect.isclass)
        if issubclass(member, errors.GatecastError)
    }
    assert classes <= PROBLEM_KINDS.keys()


def test_problem_types_are_kebab_case() -> None:
    types = {kind.type for kind in PROBLEM_KINDS.values()} - {"about:blank"}
    assert all(type_.replace("-", "").isalpha() and type_.islower() for type_ in types)


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (errors.InvalidInputError("no"), 422, None),
        (errors.ModelNotFoundError("gone"), 404, None),
        (errors.ModelNotReadyError("lost"), 503, "1"),
        (errors.OverloadedError("full", retry_after_s=4), 503, "4"),
        (errors.ShuttingDownError("bye"), 503, "1"),
        (errors.DeadlineExceededError("late"), 504, None),
        (errors.ModelOutputError("NaN"), 500, None),
    ],
)
async def test_runner_errors_become_problems(
    client: AsyncClient,
    runners: FakeRunners,
    error: Exception,
    status: int,
    retry_after: str | None,
) -> None:
    runners.error = error
    answer = await client.post(FORECAST_PATH, json=ONE)
    problem = answer.json()
    assert (answer.status_code, answer.headers.get("retry-after")) == (status, retry_after)
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "instance", "request_id"} <= problem.keys()
    assert problem["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/nope", 404, "/docs"),
        ("GET", "/v1/models/", 404, "/docs"),
        ("GET", FORECAST_PATH, 405, "Allow"),
        ("DELETE", "/v1/models", 405, "Allow"),
        ("POST", "/livez", 405, "Allow"),
    ],
)
async def test_unserved_paths_and_methods_are_problems(
    client: AsyncClient, method: str, path: str, status: int, text: str
) -> None:
    answer = await client.request(method, path)
    assert (answer.status_code, answer.json()["type"]) == (status, "about:blank")
    assert text in answer.json()["detail"]
    assert ("allow" in answer.headers) == (status == 405)


async def test_unexpected_error_is_500_logged_and_closes(
    app: FastAPI, runners: FakeRunners, caplog: pytest.LogCaptureFixture
) -> None:
    runners.error = ZeroDivisionError("secret detail")
    with caplog.at_level(logging.ERROR):
        answer = await call(app, [json.dumps(ONE).encode()])
    assert (answer.status, answer.headers["connection"]) == (500, "close")
    assert b"secret" not in answer.body
    assert "ZeroDivisionError: secret detail" in caplog.text


async def test_instance_is_the_path_in_bounds(client: AsyncClient) -> None:
    answer = await client.get(f"/{'x' * 5000}")
    assert len(answer.json()["instance"]) == 256
