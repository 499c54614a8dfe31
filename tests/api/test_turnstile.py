"""Requests of callers that are refused now, over real connections."""

import asyncio
import gzip
import json
import socket
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY

from app.errors import OverloadedError
from app.gateway.accepting import Acceptor
from app.gateway.drain import Drain
from app.gateway.pauses import Flow, Pauses
from app.gateway.turnstile import Turnstile
from app.keys import KeyRing, create_key
from app.logs import make_handler
from tests.api.connections import serving
from tests.api.raw import call
from tests.captured_log import captured_log, lines_of
from tests.e2e.client import Answer, Client
from tests.fakes import FakeRunners
from tests.waiting import until

FORECAST = "/v1/models/monthly/forecast"
INFER = "/v2/models/monthly/infer"
BODY = {"series": [{"target": [1.0, 2.0, 3.0]}]}
TENSORS: dict[str, Any] = {
    "inputs": [
        {"name": "past_target", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]},
        {"name": "sequence_lens", "shape": [1], "datatype": "INT32", "data": [3]},
    ]
}
REASON = OverloadedError("too much work waits for this model", 3, pause_s=1000.0)


@pytest.fixture
def pauses() -> Pauses:
    """One caller without a key is refused at one model."""
    pauses = Pauses()
    pauses.begin(Flow("monthly", ""), REASON)
    return pauses


@pytest.fixture
async def client(app: FastAPI, pauses: Pauses, drain: Drain) -> AsyncIterator[Client]:
    async with serving(app, Turnstile(pauses, None, drain, access_log=True)) as client:
        yield client


async def test_refusal_is_the_problem_that_the_application_would_answer(client: Client) -> None:
    answer = await client.post(FORECAST, BODY, {"x-request-id": "mine"})
    assert answer.status == 503
    assert answer.headers["retry-after"] == "3"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == "mine"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.json() == {
        "type": "overloaded",
        "title": "The service is overloaded",
        "status": 503,
        "detail": "too much work waits for this model",
        "instance": FORECAST,
        "request_id": "mine",
    }


@pytest.mark.parametrize("task", ["classify", "versions/1/tag"])
async def test_requests_of_other_tasks_are_refused_too(client: Client, task: str) -> None:
    answer = await client.post(f"/v1/models/monthly/{task}", BODY)
    assert (answer.status, answer.json()["type"]) == (503, "overloaded")


async def test_every_refusal_has_its_own_request_id(client: Client) -> None:
    answers = [await client.post(FORECAST, BODY) for _ in range(3)]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert [answer.json()["request_id"] for answer in answers] == ids
    assert len(set(ids)) == 3


async def test_refusals_are_counted_and_told_of_together(client: Client) -> None:
    route = "/v1/models/{model_name}/forecast"

    def count() -> float:
        labels = {"route": route, "model_name": "monthly", "model_version": "", "status": "503"}
        return REGISTRY.get_sample_value("gatecast_requests_total", labels) or 0.0

    before = count()
    with captured_log(make_handler) as stream:
        for _ in range(3):
            assert (await client.post(FORECAST, BODY)).status == 503
        await until(lambda: count() == before + 3)
    (line,) = lines_of(stream)
    assert (line["message"], line["route"], line["requests"]) == ("requests refused", route, 3)
    assert line["bytes"] > 3 * 100


async def test_refusal_of_tensors_has_their_form(client: Client) -> None:
    answer = await client.post(INFER, TENSORS)
    assert (answer.status, answer.headers["retry-after"]) == (503, "3")
    assert answer.json() == {"error": "too much work waits for this model"}


async def test_connection_goes_on_after_a_refusal(client: Client, pauses: Pauses) -> None:
    assert (await client.post(FORECAST, BODY)).status == 503
    assert (await client.get("/livez")).status == 200
    pauses.begin(Flow("monthly", ""), OverloadedError("over", pause_s=1e-9))
    assert (await client.post(FORECAST, BODY)).status == 200


@pytest.mark.parametrize("size", [1, 10_000, 200_000], ids=["small", "medium", "large"])
async def test_request_with_a_priority_is_for_the_application_to_judge(
    client: Client, size: int
) -> None:
    padding = " " * size
    body = json.dumps(TENSORS | {"parameters": {"priority": 1}}) + padding
    assert (await client.post(INFER, body.encode())).status == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_compressed_request_of_tensors_is_for_the_application_to_judge(
    client: Client, encoding: str
) -> None:
    body = json.dumps(TENSORS | {"parameters": {"priority": 1}}).encode()
    compressed = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
    headers = {"content-encoding": encoding}
    assert (await client.post(INFER, compressed, headers)).status == 200
    compressed = gzip.compress(json.dumps(BODY).encode())
    assert (await client.post(FORECAST, compressed, {"content-encoding": "gzip"})).status == 503


@pytest.mark.parametrize("sent", [b"", b"{", b"1\r\n{"], ids=["none", "some", "chunked"])
async def test_refused_body_is_not_waited_for(
    app: FastAPI, pauses: Pauses, drain: Drain, sent: bytes
) -> None:
    turnstile = Turnstile(pauses, None, drain, access_log=True)
    length = "transfer-encoding: chunked" if b"\r\n" in sent else "content-length: 10"
    head = f"POST {FORECAST} HTTP/1.1\r\nhost: t\r\n{length}\r\n\r\n".encode()
    async with serving(app, turnstile, body_timeout_s=0.05) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(head + sent)
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


async def test_body_that_the_application_reads_has_only_its_time_limit(
    app: FastAPI, pauses: Pauses, drain: Drain
) -> None:
    turnstile = Turnstile(pauses, None, drain, access_log=True)
    body = json.dumps(TENSORS | {"parameters": {"priority": 1}}).encode() + b" " * 2**17
    head = f"POST {INFER} HTTP/1.1\r\nhost: t\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    async with serving(app, turnstile, body_timeout_s=1.0) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(head + body[:10])
        await asyncio.sleep(0.05)
        writer.write(body[10:-1])
        await asyncio.sleep(1.1)
        writer.write(body[-1:])
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n"), 10)
        assert answer.startswith(b"HTTP/1.1 200")
        writer.close()


async def test_large_refused_body_is_read_and_thrown_away(client: Client) -> None:
    body = json.dumps(BODY) + " " * 500_000
    assert (await client.post(FORECAST, body.encode())).status == 503
    assert (await client.post(FORECAST, BODY)).status == 503


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/models/free/forecast"),
        ("POST", f"{FORECAST}?x=1"),
        ("GET", "/v1/models/monthly"),
    ],
    ids=["other model", "query", "other route"],
)
async def test_other_requests_pass(client: Client, method: str, path: str) -> None:
    body = json.dumps(BODY).encode()
    answer = await client.send(method, path, body, {"content-type": "application/json"})
    assert answer.status == 200


async def test_draining_gateway_leaves_it_to_the_application(client: Client, drain: Drain) -> None:
    drain.begin()
    assert (await client.post(FORECAST, BODY)).status == 200


async def test_only_the_key_that_floods_is_refused(
    app: FastAPI, drain: Drain, tmp_path: Path
) -> None:
    flood, modest = create_key(), create_key()
    file = tmp_path / "keys"
    file.write_text(f"{flood.line}\n{modest.line}\n")
    pauses, key_ring = Pauses(), KeyRing(file)
    key = key_ring.identify(flood.text)
    assert key is not None
    pauses.begin(Flow("monthly", key.key_id), REASON)
    async with serving(app, Turnstile(pauses, key_ring, drain, access_log=True)) as client:

        async def ask(headers: dict[str, str]) -> Answer:
            return await client.post(FORECAST, BODY, headers)

        assert (await ask({"x-api-key": flood.text})).status == 503
        assert (await ask({"authorization": f"Bearer {modest.text}"})).status == 200
        assert (await ask({})).status == 200  # this application asks for no key


async def test_no_body_is_read_while_the_caller_is_refused(
    app: FastAPI, runners: FakeRunners
) -> None:
    runners.room_error = REASON
    answer = await call(app, [b"{}"], path=FORECAST)
    assert (answer.status, answer.num_chunks_read) == (503, 0)
    answer = await call(app, [json.dumps(TENSORS).encode()], path=INFER)
    assert answer.status == 503
    urgent = TENSORS | {"parameters": {"priority": 1}}
    answer = await call(app, [json.dumps(urgent).encode()], path=INFER)
    assert answer.status == 200


async def test_connections_that_wait_are_accepted_many_at_a_time() -> None:
    made: list[asyncio.Protocol] = []

    def make() -> asyncio.Protocol:
        made.append(asyncio.Protocol())
        return made[-1]

    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = Acceptor(listener, make)
        callers = [socket.create_connection(listener.getsockname()) for _ in range(40)]
        acceptor.start()
        await until(lambda: len(made) == len(callers))
        acceptor.stop()
        for caller in callers:
            caller.close()
        callers = [socket.create_connection(listener.getsockname())]
        await asyncio.sleep(0)
        assert len(made) == 40
        callers[0].close()
