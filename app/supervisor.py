"""``gatecast serve``: starts gateways, runners and a worker for jobs, keeps and drains them."""

import asyncio
import contextlib
import shutil
import signal
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.banner import print_banner
from app.children import Child, Patience
from app.errors import StartupError
from app.settings import Settings

METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

_BACKLOG = 2048
_STOP_MARGIN_S = 5.0


class Supervisor:
    """One listener or two, some gateways, one or more runners, and a worker where there are jobs.

    Every gateway accepts from every listener; gateways and the worker talk to every runner. The
    second listener, where there is one, is that of administrators.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._signals: asyncio.Queue[int] = asyncio.Queue()

    async def run(self) -> int:
        """Serve until a signal; return the exit status: 0, or 1 if a process had to be killed.

        Raises:
            StartupError: The service can not start as it was told to.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signals.put_nowait, number)
        directory = Path(tempfile.mkdtemp(prefix="gatecast-"))
        try:
            with contextlib.ExitStack() as stack:
                ports = [self._settings.port, self._settings.admin_port]
                listeners = [
                    stack.enter_context(listen(self._settings.host, port))
                    for port in ports
                    if port is not None
                ]
                return await self._serve(listeners, directory)
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    async def _serve(self, listeners: Sequence[socket.socket], directory: Path) -> int:
        sockets = [directory / f"runner-{n}.sock" for n in range(self._settings.num_runners)]
        environment = self._settings.to_environment() | _bound_ports(listeners)
        environment[METRICS_VARIABLE] = str(directory)
        runners = [self._runner(n, path, environment) for n, path in enumerate(sockets)]
        gateways = [
            self._gateway(listeners, sockets, environment) for _ in range(self._settings.gateways)
        ]
        workers = [self._worker(sockets, environment)] if self._settings.jobs_directory else []
        callers = [*gateways, *workers]
        children = [*runners, *callers]
        tasks = {child: asyncio.create_task(child.run()) for child in children}
        failing = asyncio.gather(*tasks.values())
        announcing = asyncio.create_task(self._announce(runners[0], callers, listeners))
        stopping = asyncio.create_task(self._signals.get())
        await _first_of(stopping, failing)
        announcing.cancel()
        if stopping.done():
            for listener in listeners:
                listener.close()  # from here the gateways alone hold it; the last to go ends it
            await self._drain(tasks, callers, runners, number=stopping.result())
        else:
            stopping.cancel()
            for child in children:
                child.kill()
        await asyncio.gather(announcing, stopping, *tasks.values(), return_exceptions=True)
        await failing
        return int(any(child.was_killed for child in children))

    async def _drain(
        self,
        tasks: dict[Child, asyncio.Task[None]],
        callers: Sequence[Child],
        runners: Sequence[Child],
        *,
        number: int,
    ) -> None:
        delay_s = self._settings.drain_delay_s if number == signal.SIGTERM else 0.0
        patience_s = delay_s + self._settings.graceful_timeout_s + _STOP_MARGIN_S
        for children, signal_number in ((callers, number), (runners, signal.SIGTERM)):
            for child in children:
                child.stop(signal_number)
            hurry = asyncio.create_task(self._signals.get())
            ending = asyncio.gather(*(tasks[child] for child in children), return_exceptions=True)
            await _first_of(hurry, ending, timeout_s=patience_s)
            hurry.cancel()
            for child in children:
                child.kill()
            await ending
            patience_s = _STOP_MARGIN_S

    async def _announce(
        self, runner: Child, callers: Sequence[Child], listeners: Sequence[socket.socket]
    ) -> None:
        addresses = [listener.getsockname()[:2] for listener in listeners]
        report = await runner.ready
        await asyncio.gather(*(caller.ready for caller in callers))
        if not report.failure:
            print_banner(report, addresses, needs_key=bool(self._settings.api_keys_file))

    def _runner(self, index: int, path: Path, environment: dict[str, str]) -> Child:
        command = ("-m", "app.runner.start", "--socket", str(path), "--index", str(index))
        return self._child("runner", (*command, "--restarts", "{restarts}"), environment, ())

    def _gateway(
        self,
        listeners: Sequence[socket.socket],
        runners: Sequence[Path],
        environment: dict[str, str],
    ) -> Child:
        descriptors = [listener.fileno() for listener in listeners]
        command = ["-m", "app.gateway.server"]
        command += [part for number in descriptors for part in ("--listener", str(number))]
        command += [part for path in runners for part in ("--runner", str(path))]
        return self._child("gateway", command, environment, descriptors)

    def _worker(self, runners: Sequence[Path], environment: dict[str, str]) -> Child:
        command = ["-m", "app.jobs.worker"]
        command += [part for path in runners for part in ("--runner", str(path))]
        return self._child("worker", command, environment, ())

    def _child(
        self,
        name: str,
        command: Sequence[str],
        environment: dict[str, str],
        file_descriptors: Sequence[int],
    ) -> Child:
        return Child(
            name,
            (*command, "--lifeline", "{lifeline}"),
            environment,
            file_descriptors=file_descriptors,
            patience=Patience(self._settings.startup_timeout_s, self._settings.watchdog_s),
            ended=lambda pid: _forget_gauges(pid, environment[METRICS_VARIABLE]),
        )


def listen(host: str, port: int) -> socket.socket:
    """Open the listener.

    Raises:
        StartupError: The address can not be used.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise StartupError(f"can not listen on {host} port {port}: {error.strerror}") from error


def _bound_ports(listeners: Sequence[socket.socket]) -> dict[str, str]:
    """Return the settings of the ports as they are, where 0 took a free one."""
    names = ("GATECAST_PORT", "GATECAST_ADMIN_PORT")[: len(listeners)]
    ports = (str(listener.getsockname()[1]) for listener in listeners)
    return dict(zip(names, ports, strict=True))


def _forget_gauges(pid: int, directory: str) -> None:
    """Drop what a process that is gone had in its queue; its counters stay."""
    from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415 - 0.1 s of a start

    mark_process_dead(pid, directory)  # type: ignore[no-untyped-call]


async def _first_of(*futures: asyncio.Future[Any], timeout_s: float | None = None) -> None:
    await asyncio.wait(futures, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
