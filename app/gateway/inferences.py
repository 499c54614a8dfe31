"""Runs the parts of one request side by side."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from app.errors import ModelOutputError
from app.gateway.runners import Inference, Runners
from app.tensors import Tensors

_MAX_CONCURRENT_PARTS = 4
"""Of one request: enough to keep two runners busy, and few enough for the queue to stay short."""


async def infer_all(runners: Runners, parts: Sequence[Callable[[], Inference]]) -> list[Tensors]:
    """Run all parts, each made when its turn comes; the first failure cancels the others.

    Args:
        runners: What runs them.
        parts: The parts of one request; each knows the deadline.

    Raises:
        GatecastError: As ``Runners.infer``.
    """
    if len(parts) == 1:
        return [await runners.infer(parts[0]())]
    slots = asyncio.Semaphore(_MAX_CONCURRENT_PARTS)

    async def infer(number: int, part: Callable[[], Inference]) -> Tensors:
        async with slots:
            return await runners.infer(replace(part(), part=number))

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(infer(*numbered)) for numbered in enumerate(parts)]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


def check_finite(output: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return an output whose numbers are all finite.

    Raises:
        ModelOutputError: One is not.
    """
    if not np.isfinite(output).all():
        raise ModelOutputError("the model gave numbers that are not finite")
    return output
