"""A gateway that drains while its listener fails."""

import asyncio
import errno
import json
import os
import socket
from typing import Self, cast

import pytest
import uvicorn
from fastapi import FastAPI
from typing_extensions import override

from app.gateway.accepting import accept_waiting, connect
from app.gateway.drain import Drain
from app.gateway.protocol import with_header_timeout
from app.gateway.server import GatewayServer
from tests.api.raw import FORECAST_PATH
from tests.e2e.client import Client
from tests.fakes import FakeRunners
from tests.waiting import until

BODY = json.dumps({"series": [{"target": [1.0, 2.0, 3.0]}]}).encode()


class Listener(socket.socket):
    """A listener whose next calls fail by ``errors``."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[OSError] = []

    @override
    def dup(self) -> Self:
        return cast("Self", socket.socket(fileno=os.dup(self.fileno())))

    @override
    def accept(self) -> tuple[socket.socket, object]:
        if self.errors:
            raise self.errors.pop()
        return super().accept()


@pytest.fixture
def listener() -> Listener:
    listener = Listener()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    listener.setblocking(False)
    return listener


@pytest.fixture
def server(app: FastAPI) -> GatewayServer:
    http = with_header_timeout(15.0)
    config = uvicorn.Config(app, http=http, ws="none", lifespan="off", log_config=None)
    return GatewayServer(config, Drain(), drain_delay_s=0.0)


async def test_drain_goes_on_where_no_connection_can_be_taken(
    server: GatewayServer, listener: Listener, runners: FakeRunners
) -> None:
    runners.gate.clear()
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await until(lambda: server.started)
    async with Client(listener.getsockname()[1]) as client:
        asking = asyncio.create_task(client.post(FORECAST_PATH, BODY))
        await runners.arrived.wait()
        listener.errors.append(OSError(errno.EMFILE, "too many open files"))
        server.should_exit = True
        await until(lambda: not listener.errors)
        runners.gate.set()
        assert (await asking).status == 200
    await serving


async def test_connections_behind_an_aborted_one_are_accepted(listener: Listener) -> None:
    with listener, socket.create_connection(listener.getsockname()):
        listener.errors.append(ConnectionAbortedError())
        (connection,) = accept_waiting(listener)
        connection.close()


async def test_connection_whose_caller_has_left_is_closed() -> None:
    def make() -> asyncio.Protocol:
        raise ConnectionResetError

    connection, other = socket.socketpair(socket.AF_UNIX)
    with other:
        await connect(connection, make)
    assert connection.fileno() == -1
