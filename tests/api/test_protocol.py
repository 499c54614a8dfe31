"""Bounds on what callers send, over real connections."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI

from app.gateway.protocol import MAX_HEADER_BYTES
from app.logs import make_handler
from tests.api.connections import serving
from tests.api.raw import FORECAST_PATH
from tests.captured_log import captured_log
from tests.fakes import FakeRunners

BODY = json.dumps({"series": [{"target": [1.0, 2.0, 3.0]}]}).encode()
HEAD = f"POST {FORECAST_PATH} HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\n".encode()
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
CHUNK = b"%x\r\n%b\r\n" % (len(BODY), BODY)
WHOLE = HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
TRAILER = b"x: y\r\n"
LIVEZ = b"GET /livez HTTP/1.1\r\nhost: t\r\n\r\n"
LAST = b"GET /livez HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n"
SHORT_S = 0.2


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, sent: bytes) -> None:
        self._writer.write(sent)
        await self._writer.drain()

    async def read_all(self) -> bytes:
        """Return all that comes until the service closes the connection."""
        return await asyncio.wait_for(self._reader.read(), 10)


@asynccontextmanager
async def connected(app: FastAPI, header_timeout_s: float = 15.0) -> AsyncIterator[Connection]:
    async with serving(app, header_timeout_s=header_timeout_s) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        yield Connection(reader, writer)
        writer.close()


@pytest.fixture
async def connection(app: FastAPI) -> AsyncIterator[Connection]:
    async with connected(app) as connection:
        yield connection


@pytest.mark.parametrize(
    "trailers",
    [TRAILER * (16 * MAX_HEADER_BYTES // len(TRAILER)), b"x: " + b"y" * 16 * MAX_HEADER_BYTES],
    ids=["many", "one"],
)
async def test_endless_trailers_are_refused(connection: Connection, trailers: bytes) -> None:
    await connection.send(CHUNKED + CHUNK + b"0\r\n")
    await connection.send(trailers)
    assert (await connection.read_all()).startswith(b"HTTP/1.1 431")


async def test_large_trailers_that_come_whole_are_refused(connection: Connection) -> None:
    await connection.send(CHUNKED + CHUNK + b"0\r\n" + TRAILER * MAX_HEADER_BYTES + b"\r\n")
    assert (await connection.read_all()).startswith(b"HTTP/1.1 431")


async def test_large_chunked_body_with_a_trailer_is_answered(connection: Connection) -> None:
    padding = b"%x\r\n%b\r\n" % (8 * MAX_HEADER_BYTES, b" " * 8 * MAX_HEADER_BYTES)
    await connection.send(CHUNKED + CHUNK + padding + b"1\r\n \r\n" * 2 * MAX_HEADER_BYTES)
    await connection.send(b"0\r\n" + TRAILER + b"\r\n" + LAST)
    answers = await connection.read_all()
    assert answers.count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize("num_before", [1, 3])
@pytest.mark.parametrize(
    "refused",
    [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nx: " + b"y" * MAX_HEADER_BYTES + b"\r\n\r\n"],
    ids=["nonsense", "headers"],
)
async def test_answer_to_an_earlier_request_is_never_swapped(
    connection: Connection, runners: FakeRunners, refused: bytes, num_before: int
) -> None:
    runners.gate.clear()
    with captured_log(make_handler) as stream:
        await connection.send(WHOLE * num_before + refused)
        await runners.arrived.wait()
        runners.gate.set()
        answers = (await connection.read_all()).split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"200"] * num_before
    assert b"connection: close" in answers[-1]
    assert "exception" not in stream.getvalue()


async def test_refused_body_has_its_own_answer(
    connection: Connection, runners: FakeRunners
) -> None:
    with captured_log(make_handler) as stream:
        await connection.send(CHUNKED + CHUNK + b"nonsense\r\n")
        answers = await connection.read_all()
    assert answers.startswith(b"HTTP/1.1 400")
    assert answers.count(b"HTTP/1.1") == 1
    assert runners.inferences == []
    assert "exception" not in stream.getvalue()


async def test_answer_under_way_outlasts_a_slow_next_request(
    app: FastAPI, runners: FakeRunners
) -> None:
    runners.gate.clear()
    async with connected(app, SHORT_S) as connection:
        await connection.send(WHOLE + b"GET /liv")
        await asyncio.sleep(2 * SHORT_S)
        runners.gate.set()
        answer = await connection.read_all()
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer


async def test_empty_lines_keep_no_connection_open(app: FastAPI) -> None:
    async with connected(app, SHORT_S) as connection:
        await connection.send(LIVEZ)
        await asyncio.sleep(SHORT_S)
        await connection.send(b"\r\n")
        assert (await connection.read_all()).startswith(b"HTTP/1.1 200")
