"""Serves an application of this process on a port of loopback, as a gateway does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import uvicorn
from fastapi import FastAPI
from uvicorn.server import ServerState

from app.gateway.protocol import with_header_timeout
from app.gateway.turnstile import Turnstile
from tests.e2e.client import Client
from tests.waiting import until


@asynccontextmanager
async def serving(
    app: FastAPI,
    turnstile: Turnstile | None = None,
    *,
    header_timeout_s: float = 15.0,
    body_timeout_s: float = 15.0,
) -> AsyncIterator[Client]:
    """Serve ``app`` on a free port, behind ``turnstile`` where there is one."""
    http = with_header_timeout(header_timeout_s, turnstile, body_timeout_s=body_timeout_s)
    config = uvicorn.Config(app, http=http, ws="none", lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    make = cast("Callable[..., asyncio.Protocol]", config.http_protocol_class)
    server = await asyncio.get_running_loop().create_server(
        lambda: make(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    async with Client(server.sockets[0].getsockname()[1]) as client:
        yield client
    server.close()
    await until(lambda: not state.connections)
