"""Runs a model that was just opened in the sizes that requests will have.

ONNX Runtime reserves memory, and on a GPU chooses its kernels, when it first meets a size: better
here, beside the version that still serves, than in somebody's request.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from app.errors import EngineError
from app.interface import Interface, size_of
from app.runner.buckets import Buckets
from app.runner.engine import Device, Engine
from app.runner.queue import BatchLimits
from app.tensors import NUMPY_DTYPES, Tensors

WARM_UP_S: Mapping[Device, float] = {"cpu": 0.02, "cuda": 2.0}
"""Longest that one version is warmed up.

On a CPU its golden case has done most of what there is to do. Measured on the starter after that
case alone, a first run took up to 0.9 ms more than a third for one row, a third more for 16 rows.
"""

_LENGTH = 128
"""Steps of a row where the model names no most."""
_OTHER_SIZE = 3
"""Of dimensions that are neither rows nor steps."""
_GROWTH = 2

logger = logging.getLogger(__name__)


def warm_up(
    engine: Engine,
    limits: BatchLimits,
    *,
    budget_s: float,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Run short and long rows, from one of them up to the most that share a run.

    Where runs are padded to fixed sizes, these are run, as far as the time allows.
    A run that would not end within ``budget_s``, by the time of the one before it, is left out. A
    model that fails on made-up numbers stays cold: it has proven itself on others.
    """
    if not engine.interface.is_mergeable:
        return  # its sizes are known to its callers alone
    ends_at = clock() + budget_s
    names = [spec.name for spec in engine.interface.outputs]
    for length, batch_sizes in _sizes(engine.interface, limits):
        took_s = 0.0
        for rows in batch_sizes:
            started = clock()
            if started + _GROWTH * took_s > ends_at:
                break
            try:
                engine.run(_made_up(engine.interface, rows, length), names)
            except EngineError as error:
                logger.debug("a model is not warmed up: %s", error)
                return
            took_s = clock() - started


def _sizes(interface: Interface, limits: BatchLimits) -> Iterator[tuple[int, Iterable[int]]]:
    """Return lengths and rows to run, those first that matter most where time is short."""
    longest = interface.max_time or _LENGTH
    lengths = [max(1, longest // 4), longest]
    if not limits.has_buckets or not Buckets.fit(interface):
        yield from ((length, _batch_sizes(limits, length)) for length in lengths)
        return
    buckets = Buckets(interface, limits.max_batch_size)
    for length in dict.fromkeys([*map(buckets.length, lengths), *buckets.lengths(longest)]):
        yield length, dict.fromkeys(map(buckets.rows, _batch_sizes(limits, length)))


def _batch_sizes(limits: BatchLimits, length: int) -> Iterator[int]:
    most = max(1, min(limits.max_batch_size, limits.max_batch_steps // length))
    rows = 1
    while rows < most:
        yield rows
        rows *= _GROWTH
    yield most


def _made_up(interface: Interface, rows: int, length: int) -> Tensors:
    """Return inputs without the states, which the engine begins by itself."""
    inputs: Tensors = {}
    for spec in interface.inputs:
        if spec.name in interface.state_names:
            continue
        sizes = (size_of(size, rows, length) for size in spec.shape)
        shape = [_OTHER_SIZE if size is None else size for size in sizes]
        value = length if spec.name == interface.lengths else 1
        dtype = NUMPY_DTYPES[spec.datatype]
        inputs[spec.name] = np.full(shape, str(value) if dtype.kind == "O" else value, dtype)
    return inputs
