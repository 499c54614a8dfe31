"""Host memory that the driver keeps in its place, so that a GPU copies it by itself."""

import contextlib
import ctypes
import logging
import mmap
import weakref
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_RUNTIMES = ("libcudart.so.13", "libcudart.so.12")
"""By these names, what ONNX Runtime has loaded already is found."""

logger = logging.getLogger(__name__)


def make_buffer(num_bytes: int) -> NDArray[np.uint8]:
    """Return memory of whole pages, of at least so many bytes."""
    return np.frombuffer(mmap.mmap(-1, max(1, num_bytes)), np.uint8)


def lock_pages(buffer: NDArray[np.uint8]) -> bool:
    """Register a buffer with CUDA until it is freed; where that fails, it stays as it is.

    Source: CUDA Runtime API, ``cudaHostRegister``, with the default flags.

    Returns: Whether it is locked.
    """
    runtime = _runtime()
    if runtime is None:
        return False
    address = ctypes.c_void_p(buffer.ctypes.data)
    status = runtime.cudaHostRegister(address, ctypes.c_size_t(buffer.nbytes), ctypes.c_uint(0))
    if status:
        logger.info("CUDA does not lock memory in its place: error %d", status)
        return False
    weakref.finalize(buffer, _unlock, runtime.cudaHostUnregister, address)
    return True


def _unlock(unregister: Callable[[ctypes.c_void_p], int], address: ctypes.c_void_p) -> None:
    unregister(address)


@cache
def _runtime() -> Any:
    for name in _RUNTIMES:
        with contextlib.suppress(OSError):
            return ctypes.CDLL(name)
    logger.info("the CUDA runtime is not found by name: memory is not locked in its place")
    return None
