"""Calls an ASGI application message by message, as a server would."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message

FORECAST_PATH = "/v1/models/monthly/forecast"


@dataclass
class RawAnswer:
    """What came back; ``num_chunks_read`` says how much of the body was taken."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    num_chunks_read: int = 0


async def call(
    app: ASGIApp,
    chunks: Iterable[bytes],
    headers: dict[str, str] | None = None,
    *,
    path: str = FORECAST_PATH,
    is_complete: bool = True,
    left: asyncio.Event | None = None,
) -> RawAnswer:
    """Post ``chunks``, and end the body with them unless told that it is not complete.

    The caller leaves when ``left`` is set; never, where it is None.
    """
    answer = RawAnswer()
    messages = _messages(iter(chunks), answer, is_complete=is_complete, left=left)

    async def receive() -> Message:
        return await anext(messages)

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {k.decode(): v.decode() for k, v in message["headers"]}
        else:
            answer.body += message.get("body", b"")

    await app(_scope(path, {"content-type": "application/json"} | (headers or {})), receive, send)
    return answer


async def _messages(
    chunks: Iterator[bytes], answer: RawAnswer, *, is_complete: bool, left: asyncio.Event | None
) -> AsyncIterator[Message]:
    for chunk in chunks:
        answer.num_chunks_read += 1
        yield {"type": "http.request", "body": chunk, "more_body": True}
    if is_complete:
        yield {"type": "http.request", "body": b"", "more_body": False}
    await (left or asyncio.Event()).wait()
    while True:
        yield {"type": "http.disconnect"}


def _scope(path: str, headers: dict[str, str]) -> MutableMapping[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8080),
    }
