"""Answers of the load that are written at once, over real connections."""

import asyncio
import json

import numpy as np
import pytest
from fastapi import FastAPI

from app.gateway.drain import Drain
from app.logs import make_handler
from tests.api.connections import serving
from tests.api.oip import json_input
from tests.captured_log import captured_log, lines_of
from tests.e2e.client import LostRequestError
from tests.fakes import FakeRunners

FORECAST = "/v1/models/monthly/forecast"
INFER = "/v2/models/monthly/infer"
BODIES: dict[str, object] = {
    FORECAST: {"series": [{"target": [1.0, 2.0, 3.0]}]},
    INFER: {
        "inputs": [
            json_input(np.array([[1, 2, 3]], np.float32)),
            json_input(np.array([3], np.int32), "sequence_lens"),
        ]
    },
}


@pytest.mark.parametrize("path", BODIES)
async def test_answer_is_the_one_that_uvicorn_would_write(app: FastAPI, path: str) -> None:
    async with serving(app) as client:
        at_once = await client.post(path, BODIES[path], {"x-request-id": "mine"})
        usual = await client.post(
            path, BODIES[path], {"x-request-id": "mine", "connection": "close"}
        )
    assert at_once.status == usual.status == 200
    assert list(at_once.headers)[-2] == "content-length"  # where uvicorn never has it
    assert at_once.body == usual.body
    assert dict(at_once.headers) | {"connection": "close"} == dict(usual.headers)


async def test_answer_at_once_is_logged_with_its_size(app: FastAPI) -> None:
    async with serving(app) as client:
        with captured_log(make_handler) as stream:
            answer = await client.post(FORECAST, BODIES[FORECAST])
            (line,) = lines_of(stream)
    assert (line["status"], line["bytes"]) == (200, len(answer.body))


async def test_draining_gateway_says_that_the_connection_ends(app: FastAPI, drain: Drain) -> None:
    async with serving(app) as client:
        drain.begin()
        answer = await client.post(FORECAST, BODIES[FORECAST])
    assert (answer.status, answer.headers["connection"]) == (200, "close")


async def test_requests_sent_together_are_answered_in_turn(app: FastAPI) -> None:
    body = json.dumps(BODIES[FORECAST]).encode()
    lines = ["host: test", "content-type: application/json", f"content-length: {len(body)}"]

    def request(number: int) -> bytes:
        head = "\r\n".join([f"POST {FORECAST} HTTP/1.1", *lines, f"x-request-id: {number}", "", ""])
        return head.encode() + body

    async with serving(app) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(b"".join(map(request, range(3))))
        answered = b""
        while answered.count(b"forecasts") < 3:
            answered += await reader.read(2**16)
        writer.close()
    ids = [line for line in answered.split(b"\r\n") if line.startswith(b"x-request-id")]
    assert ids == [b"x-request-id: 0", b"x-request-id: 1", b"x-request-id: 2"]


async def test_caller_that_left_gets_nothing(app: FastAPI, runners: FakeRunners) -> None:
    runners.gate.clear()
    async with serving(app) as client:
        sending = asyncio.create_task(client.post(FORECAST, BODIES[FORECAST]))
        await runners.arrived.wait()
        client.close()
        runners.gate.set()
        with pytest.raises(LostRequestError):
            await sending
        assert (await client.post(FORECAST, BODIES[FORECAST])).status == 200
