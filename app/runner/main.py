"""A runner process: opens the models on one device and runs what the gateways send."""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import uvloop

from app import metrics
from app.errors import StartupError
from app.example import example_request, summarize
from app.lifeline import (
    NOT_NEEDED_STATUS,
    STARTUP_FAILURE_STATUS,
    Lifeline,
    ModelReport,
    ReadyReport,
)
from app.logs import configure_logging
from app.model_config import ModelConfig
from app.niceness import give_way
from app.runner.batcher import DynamicBatcher
from app.runner.engine import Device, OrtEngine, cuda_is_usable
from app.runner.histories import Histories
from app.runner.ledger import Ledger
from app.runner.loading import load_engine
from app.runner.memory import load_first, recall, remember
from app.runner.place import Place
from app.runner.polling import Poller, Stamps, recall_stamps
from app.runner.queue import BatchLimits
from app.runner.repository import LoadedModel, LoadedVersions, Repository
from app.runner.sequences import Sequences
from app.runner.server import RunnerServer
from app.runner.shelf import ModelShelf
from app.runner.state_cache import StateCache
from app.runner.vetting import Vetter
from app.runner.vetting_process import VettingProcess
from app.settings import Settings, load_settings
from app.statistics import statistics_file

_RUNS_PER_WATCHDOG = 6
_LOST_STATUS = 70
"""EX_SOFTWARE of sysexits.h."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opener:
    """What knows of CUDA: whether it opens here, and how a model is opened on a device."""

    has_cuda: Callable[[], bool] = cuda_is_usable
    load: Callable[..., OrtEngine] = load_engine


def main(
    arguments: argparse.Namespace, process: VettingProcess | None, opener: Opener | None = None
) -> None:
    """Run until told to stop; an error at start goes to the supervisor, with status 78.

    Args:
        arguments: Those of ``app.runner.start``.
        process: What tries model files, where it was started already.
        opener: What opens models; None opens them really.
    """
    opener = opener or Opener()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lifeline = Lifeline(arguments.lifeline)
    with ExitStack() as stack:
        try:
            settings = load_settings()
            configure_logging(settings)
            vetter = stack.enter_context(_vetter_of(settings, arguments.socket, process))
            vetter.look_ahead()
            memory = _device_of(arguments.socket)
            device, note = recall_device(memory, settings.device, opener.has_cuda)
            place = Place(arguments.index, arguments.gpus, settings.num_runners, device)
            if not place.is_needed:
                sys.exit(NOT_NEEDED_STATUS)
            if arguments.restarts:
                metrics.RUNNER_RESTARTS.labels(str(arguments.index)).inc()
            repository = Repository(
                settings.model_repository,
                device,
                gpu=place.gpu,
                read_model=vetter.read,
                load=partial(
                    opener.load,
                    gpu_mem_limit_bytes=settings.gpu_mem_limit_bytes,
                    has_bindings=settings.gpu_io_binding,
                ),
            )
            files = recall_stamps(repository, _polled(arguments.socket))
            models = load_first(repository, _memory_of(arguments.socket))
        except StartupError as error:
            if arguments.restarts:  # the supervisor knows how the first one began, and tries again
                logger.warning("a lost runner can not be replaced yet: %s", error)
            lifeline.report(ReadyReport(failure=str(error)))
            sys.exit(STARTUP_FAILURE_STATUS)
        runner = _Runner(settings, repository, place, lifeline, socket=arguments.socket)
        if device == "cpu":  # what feeds a GPU must not wait
            give_way(settings.runner_niceness)
        uvloop.run(_serve(runner, vetter, _Beginning(models, files, note)))


def choose_device(wanted: str, has_cuda: Callable[[], bool]) -> tuple[Device, str]:
    """Return the device to run on, and a note on why, where it was not asked for by name.

    Raises:
        StartupError: CUDA was asked for by name and ONNX Runtime can not open it.
    """
    if wanted == "cpu":
        return "cpu", ""
    if has_cuda():
        return "cuda", "" if wanted == "cuda" else "CUDA was found"
    if wanted == "cuda":
        raise StartupError(
            "device cuda: ONNX Runtime can not open CUDA here"
            " (it needs an NVIDIA driver, CUDA and cuDNN)"
        )
    return "cpu", "CUDA was not found"


def recall_device(memory: Path, wanted: str, has_cuda: Callable[[], bool]) -> tuple[Device, str]:
    """Return the device of a lost runner, else that of ``choose_device``: then ``memory`` says so.

    How many runners serve is settled by the device, so none comes back on another one.

    Raises:
        StartupError: As ``choose_device``; also where CUDA that was opened before does not open.
    """
    recalled = recall(memory, str)
    if recalled is not None:
        return choose_device(recalled, has_cuda)
    device, note = choose_device(wanted, has_cuda)
    try:
        remember(memory, device)
    except OSError as error:
        logger.warning("the device can not be kept for another runner: %s", error)
    return device, note


@dataclass(frozen=True, slots=True)
class _Beginning:
    """What a runner begins with: its models, the files there were before, a note on its device."""

    models: list[LoadedVersions]
    files: Stamps
    note: str


class _Runner:
    """One runner, from its first model to its last answer."""

    def __init__(
        self,
        settings: Settings,
        repository: Repository,
        place: Place,
        lifeline: Lifeline,
        *,
        socket: Path,
    ) -> None:
        self._settings = settings
        self._repository = repository
        self._place = place
        self._device: Device = place.device
        self._lifeline = lifeline
        self._socket = socket
        self._ledger = Ledger(statistics_file(socket))
        self._executors: dict[Device, Executor] = {}

    async def serve(self, beginning: _Beginning) -> None:
        """Serve until told to stop."""
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
        async with AsyncExitStack() as stack:
            if (
                self._device == "cuda"
            ):  # the loop turns while the GPU runs, and a CPU model beside it
                devices: tuple[Device, ...] = ("cuda", "cpu")
                self._executors = {
                    d: stack.enter_context(ThreadPoolExecutor(self._num_slots(d), d))
                    for d in devices
                }
            shelf = await stack.enter_async_context(self._shelf())
            server = RunnerServer(
                shelf, self._device, self._sequences(), self._ledger, self._histories()
            )
            server.num_runners = self._place.num_runners
            await shelf.put(*beginning.models)
            await server.listen(self._socket)
            reports = [_report_of(model) for model in shelf.models()]
            self._lifeline.report(
                ReadyReport(device=self._device, note=beginning.note, models=reports)
            )
            if self._settings.model_control == "poll":
                memory = _polled(self._socket)
                poller = Poller(self._repository, shelf, memory=memory, settled=beginning.files)
                polling = asyncio.create_task(poller.poll(self._settings.poll_interval_s))
                stack.callback(polling.cancel)

            def beat() -> bool:
                server.beat()
                return not server.is_stuck(self._settings.watchdog_s)

            await self._lifeline.beat_until(stopped, is_well=beat)
            await server.close()

    def _shelf(self) -> ModelShelf:
        return ModelShelf(
            self._repository,
            self._batcher,
            limits_of=self._limits_of,
            memory=_memory_of(self._socket),
            retire_after_s=self._settings.retire_after_s,
        )

    def _limits_of(self, config: ModelConfig) -> BatchLimits:
        limits = _limits_of(config, self._settings)
        if self._device == "cpu" or config.device == "cpu":
            return limits
        num_slots = self._num_slots("cuda")
        return replace(limits, has_buckets=self._settings.gpu_buckets, num_slots=num_slots)

    def _batcher(
        self, model_name: str, model_version: int, engine: OrtEngine, limits: BatchLimits
    ) -> DynamicBatcher:
        batcher = DynamicBatcher(
            engine,
            limits,
            model_name=model_name,
            model_version=model_version,
            executor=self._executors.get(engine.device),
        )
        batcher.lost = _end_lost
        batcher.statistics = self._ledger.find(model_name, model_version)
        return batcher

    def _num_slots(self, device: Device) -> int:
        return self._settings.gpu_run_slots if device == "cuda" else 1

    def _sequences(self) -> Sequences:
        return Sequences(
            max_sequences=self._settings.max_sequences,
            idle_timeout_s=self._settings.sequence_idle_timeout_s,
        )

    def _histories(self) -> Histories | None:
        max_bytes = self._settings.state_cache_bytes
        return Histories(StateCache(max_bytes)) if max_bytes else None


async def _serve(runner: _Runner, vetter: Vetter, beginning: _Beginning) -> None:
    with vetter:  # a file that is being tried must not hold up the end
        await runner.serve(beginning)


def _end_lost() -> None:
    """End at once, so that the supervisor starts another process.

    Nothing is put away in order: on a device that is lost that may wait for ever.
    """
    logger.critical("nothing can be run any more: this runner ends")
    logging.shutdown()
    os._exit(_LOST_STATUS)


def _memory_of(socket: Path) -> Path:
    """Return the file that outlives a runner and says what it served."""
    return socket.with_suffix(".models")


def _device_of(socket: Path) -> Path:
    """Return the file that outlives a runner and says where it ran models."""
    return socket.with_suffix(".device")


def _polled(socket: Path) -> Path:
    """Return the file that outlives a runner and says which files it loaded last."""
    return socket.with_suffix(".polled")


def _vetter_of(settings: Settings, socket: Path, process: VettingProcess | None) -> Vetter:
    return Vetter(
        settings.model_repository,
        max_bytes=settings.max_model_bytes,
        timeout_s=settings.vetting_timeout_s,
        memory=socket.with_name("vetted"),
        process=process,
    )


def _limits_of(config: ModelConfig, service: Settings) -> BatchLimits:
    settings = config.for_model(service)
    return BatchLimits(
        max_batch_size=settings.max_batch_size,
        max_batch_steps=settings.max_batch_steps,
        max_run_s=settings.watchdog_s / _RUNS_PER_WATCHDOG,
        max_padding_share=settings.max_padding_share,
        max_queue_steps=settings.max_queue_steps,
        max_queue_delay_s=settings.max_queue_delay_ms / 1000,
        priority_levels=settings.priority_levels,
        max_queue_wait_s=settings.max_queue_wait_ms / 1000,
        is_size_fitted=settings.fit_batch_size and config.max_batch_size is None,
    )


def _report_of(model: LoadedModel) -> ModelReport:
    if model.engine is None:
        return ModelReport(model.model_name, model.model_version, reason=model.reason)
    card = model.engine.any_card
    if card is None:
        names = ", ".join(spec.name for spec in model.engine.interface.inputs)
        return ModelReport(model.model_name, model.model_version, f"tensors, from {names}")
    return ModelReport(
        model.model_name,
        model.model_version,
        summarize(card),
        json.dumps(example_request(card)),
        task=card.task,
    )
