"""A runner process: opens the models on one device and runs what the gateways send."""

import argparse
import asyncio
import json
import logging
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

from app import metrics
from app.errors import StartupError
from app.example import example_request
from app.lifeline import (
    NOT_NEEDED_STATUS,
    STARTUP_FAILURE_STATUS,
    Lifeline,
    ModelReport,
    ReadyReport,
)
from app.logs import configure_logging
from app.runner.batcher import DynamicBatcher
from app.runner.engine import Device, cuda_is_usable
from app.runner.queue import BatchLimits
from app.runner.repository import LoadedModel, load_repository
from app.runner.sequences import Sequences
from app.runner.server import RunnerServer
from app.settings import Settings, load_settings

_RUNS_PER_WATCHDOG = 6

logger = logging.getLogger(__name__)


def main() -> None:
    """Run until told to stop; an error at start goes to the supervisor, with status 78."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--lifeline", type=int, required=True)
    parser.add_argument("--index", type=int, required=True)
    parser.add_argument("--restarts", type=int, required=True)
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lifeline = Lifeline(arguments.lifeline)
    try:
        settings = load_settings()
        configure_logging(settings)
        device, note = choose_device(settings.device, cuda_is_usable)
        if device == "cuda" and arguments.index > 0:
            sys.exit(NOT_NEEDED_STATUS)  # a GPU holds each model once
        if arguments.restarts:
            metrics.RUNNER_RESTARTS.labels(str(arguments.index)).inc()
        directory = settings.model_repository
        memory = settings.gpu_mem_limit_bytes
        models = load_repository(directory, device, gpu_mem_limit_bytes=memory)
    except StartupError as error:
        lifeline.report(ReadyReport(failure=str(error)))
        sys.exit(STARTUP_FAILURE_STATUS)
    uvloop.run(_serve(settings, models, device, lifeline, socket=arguments.socket, note=note))


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


async def _serve(
    settings: Settings,
    models: list[LoadedModel],
    device: Device,
    lifeline: Lifeline,
    *,
    socket: Path,
    note: str,
) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with AsyncExitStack() as stack:
        executor = None
        if device == "cuda":
            executor = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="cuda"))
        batchers = {
            (model.model_name, model.model_version): await stack.enter_async_context(
                DynamicBatcher(
                    model.engine,
                    _limits_of(settings),
                    model_name=model.model_name,
                    model_version=model.model_version,
                    executor=executor,
                )
            )
            for model in models
            if model.engine is not None
        }
        sequences = Sequences(
            max_sequences=settings.max_sequences,
            idle_timeout_s=settings.sequence_idle_timeout_s,
        )
        server = RunnerServer(models, batchers, device, sequences)
        await server.listen(socket)
        lifeline.report(
            ReadyReport(device=device, note=note, models=[_report_of(model) for model in models])
        )

        def beat() -> bool:
            server.beat()
            return not server.is_stuck(settings.watchdog_s)

        await lifeline.beat_until(stopped, is_well=beat)
        await server.close()


def _limits_of(settings: Settings) -> BatchLimits:
    return BatchLimits(
        max_batch_size=settings.max_batch_size,
        max_batch_steps=settings.max_batch_steps,
        max_run_s=settings.watchdog_s / _RUNS_PER_WATCHDOG,
        max_padding_share=settings.max_padding_share,
        max_queue_steps=settings.max_queue_steps,
        max_queue_delay_s=settings.max_queue_delay_ms / 1000,
        priority_levels=settings.priority_levels,
    )


def _report_of(model: LoadedModel) -> ModelReport:
    if model.engine is None:
        return ModelReport(model.model_name, model.model_version, reason=model.reason)
    if not model.engine.has_card:
        names = ", ".join(spec.name for spec in model.engine.interface.inputs)
        return ModelReport(model.model_name, model.model_version, f"tensors, from {names}")
    card = model.engine.card
    summary = f"{card.cell.upper()}, {card.freq or 'integer'} steps, {card.horizon} ahead"
    example = json.dumps(example_request(card))
    return ModelReport(model.model_name, model.model_version, summary, example)


if __name__ == "__main__":
    main()
