"""``gatecast serve``: starts gateways, runners and a worker for jobs, keeps and drains them."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import structs

from app.banner import print_banner
from app.children import Child, Patience
from app.errors import StartupError
from app.gpus import find_gpus, show_only
from app.lifeline import ReadyReport
from app.settings import Settings

METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

_BACKLOG = 2048
_STOP_MARGIN_S = 5.0


class Supervisor:
    """One listener or two, some gateways, one or more runners, and a worker where there are jobs.

    Every gateway accepts from every listener; gateways and the worker talk to every runner. The
    second listener, where there is one, is that of administrators. There are places for runners on
    all GPUs and for those on the CPU: only a runner finds out whether CUDA opens, and it ends where
    it then has no place.

    Args:
        settings: Those of the service.
        runner_module: What a runner runs.
    """

    def __init__(self, settings: Settings, runner_module: str = "app.runner.start") -> None:
        self._settings = settings
        self._runner_module = runner_module
        self._gpus = find_gpus(os.environ) if settings.device != "cpu" else ()
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
        sockets = [directory / f"runner-{n}.sock" for n in range(self._num_places())]
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
        on_gpus = {runner: tasks[runner] for runner in runners[: max(1, len(self._gpus))]}
        announcing = asyncio.create_task(self._announce(on_gpus, callers, listeners))
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
        self,
        runners: Mapping[Child, asyncio.Task[None]],
        callers: Sequence[Child],
        listeners: Sequence[socket.socket],
    ) -> None:
        addresses = [listener.getsockname()[:2] for listener in listeners]
        for runner, task in runners.items():
            await _first_of(runner.ready, task)  # one that has no place here ends instead
        reports = [runner.ready.result() for runner in runners if runner.ready.done()]
        await asyncio.gather(*(caller.ready for caller in callers))
        if reports and not any(report.failure for report in reports):
            print_banner(_join(reports), addresses, needs_key=bool(self._settings.api_keys_file))

    def _num_places(self) -> int:
        num_gpus = max(1, len(self._gpus))
        return (
            num_gpus
            if self._settings.device == "cuda"
            else max(num_gpus, self._settings.num_runners)
        )

    def _runner(self, index: int, path: Path, environment: dict[str, str]) -> Child:
        command = ["-m", self._runner_module, "--socket", str(path), "--index", str(index)]
        command += ["--gpus", str(len(self._gpus)), "--restarts", "{restarts}"]
        if index < len(self._gpus):
            environment = environment | show_only(self._gpus[index], os.environ)
        return self._child("runner", command, environment, ())

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


def _join(reports: Sequence[ReadyReport]) -> ReadyReport:
    """Return what runners say together: with several GPUs, each may hold other models."""
    first = reports[0]
    on_cuda = [report for report in reports if report.device == "cuda"]
    if len(on_cuda) < 2:  # noqa: PLR2004 - as good as one
        return first
    found = {(m.model_name, m.model_version): m for one in on_cuda for m in one.models}
    models = [found[key] for key in sorted(found)]
    return structs.replace(first, device=f"cuda, {len(on_cuda)} GPUs", models=models)


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
