"""Runs the batches of a bulk run here, without a service: one process per core, or the GPU's one.

Each process holds one ONNX Runtime session with one thread, so numbers do not depend on how many
there are. ONNX Runtime may abort its process; then the run fails with one line and can go on later.
"""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import asynccontextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from app.artifact.card import Card
from app.artifact.directory import MODEL_FILE, MODEL_NAME_PATTERN, find_versions
from app.bulk.forecaster import BatchLimits, BulkForecaster, BulkModel
from app.cores import count_cores
from app.errors import EngineError, ModelNotFoundError, ModelOutputError
from app.runner.engine import Device, OrtEngine, cuda_is_usable
from app.tensors import Tensors

_Result = TypeVar("_Result")

_CALLS_PER_PROCESS = 2
"""One is run while the next one waits beside it."""
_PACKAGES = ("onnxruntime-gpu", "onnxruntime")
LIMITS: dict[Device, BatchLimits] = {
    "cpu": BatchLimits(max_batch_size=32, max_batch_steps=32_768),
    "cuda": BatchLimits(max_batch_size=1024, max_batch_steps=1_048_576),
}


class LocalForecaster(BulkForecaster):
    """Runs a model in processes of its own; made by ``open_local``."""

    def __init__(self, model: BulkModel, limits: BatchLimits, pools: list[ProcessPoolExecutor]):
        self.model = model
        self.limits = limits
        self.concurrency = len(pools) * _CALLS_PER_PROCESS
        self._free: asyncio.Queue[ProcessPoolExecutor] = asyncio.Queue()
        for pool in pools * _CALLS_PER_PROCESS:
            self._free.put_nowait(pool)

    @override
    async def infer(self, inputs: Tensors) -> NDArray[np.float32]:
        """Run one batch in the process that is free first.

        Raises:
            ModelOutputError: A number is not finite.
            EngineError: The run failed, or its process died.
        """
        return await self._call(_infer, inputs)

    @override
    async def infer_all(self, batches: Sequence[Tensors]) -> list[NDArray[np.float32] | None]:
        """Run some batches in one call: handing each over by itself costs a tenth of its run."""
        return await self._call(_infer_all, batches)

    async def _call(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        pool = await self._free.get()
        try:
            return await _call(pool, function, *arguments)
        finally:
            self._free.put_nowait(pool)


@asynccontextmanager
async def open_local(
    repository: Path,
    model_name: str,
    model_version: int | None = None,
    *,
    workers: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> AsyncGenerator[LocalForecaster]:
    """Start the processes that run a model, and end them with the block.

    Args:
        repository: Folder of ``NAME/VERSION/model.onnx`` files.
        model_name: Name of the model.
        model_version: Its version; None takes the newest.
        workers: Processes on the CPU; None means one per core.
        device: Where to run; ``auto`` takes the GPU if ONNX Runtime can use it.

    Raises:
        ModelNotFoundError: There is no such model or version.
        ArtifactError: The file is damaged or no forecaster.
        EngineError: A process died.
    """
    number = _find_version(repository, model_name, model_version)
    model = (repository / model_name / str(number) / MODEL_FILE).read_bytes()
    with contextlib.ExitStack() as stack:
        pools = [stack.enter_context(_start(model, device))]
        card, digest, found = await _call(pools[0], _describe)
        if found == "cpu":
            count = workers or count_cores()
            others = [stack.enter_context(_start(model, found)) for _ in range(1, count)]
            for pool in others:
                pool.submit(_describe)  # it is ready by the time that the file has been surveyed
            pools += others
        described = BulkModel(model_name, number, digest, card, _runtime(found))
        yield LocalForecaster(described, LIMITS[found], pools)


def _find_version(repository: Path, model_name: str, model_version: int | None) -> int:
    is_name = MODEL_NAME_PATTERN.fullmatch(model_name) is not None
    versions = find_versions(repository / model_name) if is_name else []
    if not versions:
        raise ModelNotFoundError(f"{repository} holds no model {model_name}")
    if model_version is None:
        return versions[-1]
    if model_version not in versions:
        numbers = ", ".join(map(str, versions))
        raise ModelNotFoundError(f"model {model_name} has no such version; it has {numbers}")
    return model_version


def _runtime(device: Device) -> str:
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            return f"onnxruntime {version(package)} on {device}"
    return f"onnxruntime on {device}"


def _start(model: bytes, device: str) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        1, mp_context=get_context("spawn"), initializer=_begin, initargs=(model, device)
    )


async def _call(
    pool: ProcessPoolExecutor, function: Callable[..., _Result], *arguments: object
) -> _Result:
    try:
        return await asyncio.get_running_loop().run_in_executor(pool, function, *arguments)
    except BrokenProcessPool as error:
        raise EngineError("a process that ran the model has died") from error


# What follows happens in the processes.

_given: dict[str, Any] = {}


def _begin(model: bytes, device: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told as well, and ends this
    _given.update(model=model, device=device)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


@cache
def _engine() -> tuple[OrtEngine, Device]:
    wanted = _given["device"]
    device: Device = "cpu"
    if wanted == "cuda" or (wanted == "auto" and cuda_is_usable()):
        device = "cuda"
    engine = OrtEngine.from_bytes(_given["model"], device)
    _ = engine.card  # raises where it makes no forecasts
    engine.check_golden_case()
    return engine, device


def _describe() -> tuple[Card, str, Device]:
    engine, device = _engine()
    return engine.card, engine.file_digest, device


def _infer(inputs: Tensors) -> NDArray[np.float32]:
    engine, _ = _engine()
    quantiles: NDArray[np.float32] = engine.run(inputs, ["quantiles"])["quantiles"]
    return quantiles


def _infer_all(batches: Sequence[Tensors]) -> list[NDArray[np.float32] | None]:
    outputs: list[NDArray[np.float32] | None] = []
    for inputs in batches:
        try:
            outputs.append(_infer(inputs))
        except ModelOutputError:
            outputs.append(None)
    return outputs
