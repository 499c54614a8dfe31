"""A gateway process: uvicorn with a drain that loses no request."""

import argparse
import asyncio
import signal
import socket
import sys
import time
from pathlib import Path
from types import FrameType
from typing import cast

import uvicorn
import uvloop
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.errors import StartupError
from app.garbage import collect_rarely
from app.gateway.accepting import Acceptor, accept_waiting, connect
from app.gateway.drain import Drain
from app.gateway.handshakes import stop_handshakes
from app.gateway.main import create_app, open_stream_store
from app.gateway.protocol import with_header_timeout
from app.gateway.runner_client import RunnerPool
from app.gateway.turnstile import Turnstile
from app.keys import KeyRing
from app.lifeline import STARTUP_FAILURE_STATUS, Lifeline, ReadyReport
from app.logs import configure_logging
from app.settings import Settings, load_settings

_HANDSHAKE_S = 0.2
"""For connections that have begun to be complete: some round trips of a wide network."""
_LAST_CALL_S = 2.0
_TICK_S = 0.05
_KEEP_ALIVE_S = 75


class GatewayServer(uvicorn.Server):
    """Drains on SIGTERM: connections are accepted, answered and told to close for a while.

    Then the listeners go.
    A stock uvicorn closes idle keep-alive connections at once and so loses the requests under way
    on them.
    """

    def __init__(self, config: uvicorn.Config, drain: Drain, *, drain_delay_s: float) -> None:
        super().__init__(config)
        self._drain = drain
        self._drain_delay_s = drain_delay_s
        self._listen_until: float | None = None
        self._acceptors: list[Acceptor] = []

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._acceptors = [Acceptor(one, self._make_protocol) for one in sockets or []]
        for acceptor in self._acceptors:
            acceptor.start()

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; a second signal ends at once."""
        if self._listen_until is not None:
            self.should_exit = self.force_exit = True
            return
        self._drain.begin()
        delay = self._drain_delay_s if sig == signal.SIGTERM else 0.0
        self._listen_until = time.monotonic() + delay

    @override
    async def on_tick(self, counter: int) -> bool:
        if self._listen_until is not None and time.monotonic() >= self._listen_until:
            self.should_exit = True
        return await super().on_tick(counter)

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # The kernel has completed connections that the loop, which accepts one a turn, has not seen
        # yet; closing the listener would reset them. So no further ones begin, and all are taken.
        for acceptor in self._acceptors:
            acceptor.stop()
        for listener in sockets or []:
            stop_handshakes(listener)
        await asyncio.sleep(_HANDSHAKE_S)
        waiting: list[socket.socket] = []
        for server, listener in zip(self.servers, sockets or [], strict=True):
            listener.setblocking(False)
            waiting += accept_waiting(listener)
            server.close()
            listener.close()
        for connection in waiting:
            await connect(connection, self._make_protocol)
        await self._wait_for_first_requests()
        await super().shutdown()

    async def _wait_for_first_requests(self) -> None:
        """Give the newest connections time to be read: their first requests are on the way."""
        last_call = time.monotonic() + _LAST_CALL_S
        while time.monotonic() < last_call and not self.force_exit:
            await asyncio.sleep(_TICK_S)
            if all(connection.cycle for connection in self._http_connections()):
                return

    def _http_connections(self) -> list[HttpToolsProtocol]:
        connections = self.server_state.connections
        return [one for one in connections if isinstance(one, HttpToolsProtocol)]

    def _make_protocol(self) -> asyncio.Protocol:
        make = cast("type[HttpToolsProtocol]", self.config.http_protocol_class)
        return make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )


def main() -> None:
    """Serve until told to stop; an error at start goes to the supervisor, with status 78."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listener", type=int, action="append", required=True)
    parser.add_argument("--lifeline", type=int, required=True)
    parser.add_argument("--runner", type=Path, action="append", required=True)
    arguments = parser.parse_args()
    lifeline = Lifeline(arguments.lifeline)
    try:
        settings = load_settings()
        configure_logging(settings)
        listeners = [socket.socket(fileno=number) for number in arguments.listener]
        uvloop.run(_serve(settings, listeners, lifeline, arguments.runner))
    except StartupError as error:
        lifeline.report(ReadyReport(failure=str(error)))
        sys.exit(STARTUP_FAILURE_STATUS)


async def _serve(
    settings: Settings, listeners: list[socket.socket], lifeline: Lifeline, runners: list[Path]
) -> None:
    drain, stopped = Drain(), asyncio.Event()
    pool = RunnerPool(
        runners,
        silence_s=settings.watchdog_s,
        max_queue_steps=settings.max_queue_steps,
        change_timeout_s=settings.startup_timeout_s,
    )
    turnstile = Turnstile(
        pool.pauses,
        KeyRing(settings.api_keys_file) if settings.api_keys_file else None,
        drain,
        access_log=settings.access_log,
    )
    store = open_stream_store(settings, runners[0].parent)
    config = uvicorn.Config(
        create_app(settings, pool, drain, store),
        http=with_header_timeout(
            settings.header_timeout_s, turnstile, body_timeout_s=settings.body_timeout_s
        ),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(settings.graceful_timeout_s)),
    )
    collect_rarely()
    server = GatewayServer(config, drain, drain_delay_s=settings.drain_delay_s)
    async with pool:
        beating = asyncio.create_task(lifeline.beat_until(stopped))
        serving = asyncio.create_task(server.serve(sockets=listeners))
        reporting = asyncio.create_task(_report_when_connected(pool, lifeline))
        await asyncio.wait([beating, serving], return_when=asyncio.FIRST_COMPLETED)
        reporting.cancel()
        server.should_exit = True  # the supervisor is gone
        await serving
        await store.close()
        stopped.set()
        await beating


async def _report_when_connected(pool: RunnerPool, lifeline: Lifeline) -> None:
    """Say that the gateway is ready when its first answer would not be a 503."""
    await pool.connected.wait()
    lifeline.report(ReadyReport())


if __name__ == "__main__":
    main()
