"""Connections that no well-meant client makes."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from app.gateway.protocol import MAX_HEADER_BYTES
from tests.e2e.client import Client
from tests.e2e.service import Service, serving

HEADER_TIMEOUT_S = 0.5


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tiny_repository: Path) -> AsyncIterator[Service]:
    async with serving(tiny_repository, header_timeout_s=HEADER_TIMEOUT_S) as running:
        yield running


async def exchange(service: Service, sent: bytes) -> bytes:
    """Send bytes and return all that comes until the service closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    try:
        writer.write(sent)
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_silent_connection_is_closed(service: Service) -> None:
    assert await exchange(service, b"") == b""


async def test_half_a_header_is_not_waited_for(service: Service) -> None:
    assert await exchange(service, b"GET / HTTP/1.1\r\nhost: te") == b""


async def test_slow_second_request_is_not_waited_for(service: Service) -> None:
    answer = await exchange(service, b"GET /livez HTTP/1.1\r\nhost: t\r\n\r\nGET /li")
    assert answer.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "headers",
    [b"x-long: " + b"a" * MAX_HEADER_BYTES, b"x: y\r\n" * (MAX_HEADER_BYTES // 2)],
    ids=["one long header", "many headers"],
)
async def test_large_headers_are_refused(service: Service, headers: bytes) -> None:
    answer = await exchange(service, b"GET /livez HTTP/1.1\r\nhost: t\r\n" + headers + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 431")
    assert b'"headers-too-large"' in answer


async def test_endless_header_is_refused_before_it_ends(service: Service) -> None:
    for _ in range(10):  # the answer must not be lost to bytes that are still on their way
        answer = await exchange(
            service, b"GET / HTTP/1.1\r\nx-long: " + b"a" * 16 * MAX_HEADER_BYTES
        )
        assert answer.startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize(
    "sent",
    [
        b"NONSENSE\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nhost: t\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0",
        b"GET /livez HTTP/1.1\r\nhost: t\r\n folded: x\r\n\r\n",
    ],
    ids=["not HTTP", "two lengths", "length and chunks", "folded header"],
)
async def test_ambiguous_requests_are_refused(service: Service, sent: bytes) -> None:
    answer = await exchange(service, sent)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"connection: close" in answer


async def test_service_is_whole_afterwards(service: Service) -> None:
    async with Client(service.port) as client:
        assert (await client.get("/readyz")).status == 200
