"""Runs a session through I/O bindings, over host buffers that are used again and again.

What a run takes is laid into buffers that stay, and what it gives is written into others, so that a
GPU copies from and to memory that is locked in its place. Lengths stay on the host, where the
recurrent operators of the CUDA provider read them.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from app.artifact.specs import TensorSpec
from app.interface import Interface, size_of
from app.runner.page_locking import lock_pages, make_buffer
from app.tensors import NUMPY_DTYPES, Tensors


class Bindings:
    """The bindings of one session, one for each run that is under way.

    Args:
        session: What is run.
        lock: Locks a new buffer in its place.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        lock: Callable[[NDArray[np.uint8]], object] = lock_pages,
    ) -> None:
        self._session = session
        self._lock = lock
        self._free: list[_Binding] = []
        self._choosing = threading.Lock()

    @staticmethod
    def fit(interface: Interface) -> bool:
        """Tell whether a model can be run so: its shapes are known, and it takes no texts."""
        specs = (*interface.inputs, *interface.outputs)
        return interface.is_mergeable and all(spec.datatype != "BYTES" for spec in specs)

    def run(
        self, inputs: Tensors, outputs: Sequence[str], interface: Interface
    ) -> list[NDArray[Any]]:
        """Run once; any number of threads may do so at a time.

        Raises:
            Exception: As ``InferenceSession.run``.
        """
        with self._choosing:
            binding = self._free.pop() if self._free else _Binding(self._session, self._lock)
        results = binding.run(inputs, outputs, interface)
        with self._choosing:  # one whose run has failed does not come back
            self._free.append(binding)
        return results


class _Binding:
    """One binding and its buffers."""

    def __init__(
        self, session: ort.InferenceSession, lock: Callable[[NDArray[np.uint8]], object]
    ) -> None:
        self._session = session
        self._binding = session.io_binding()
        self._lock = lock
        self._buffers: dict[str, NDArray[np.uint8]] = {}

    def run(
        self, inputs: Tensors, outputs: Sequence[str], interface: Interface
    ) -> list[NDArray[Any]]:
        self._binding.clear_binding_inputs()
        self._binding.clear_binding_outputs()
        for name, array in inputs.items():
            place = self._place(f"in {name}", array.shape, array.dtype)
            place[...] = array
            self._binding.bind_cpu_input(name, place)
        sizes = interface.rows_of(inputs), interface.length_of(inputs)
        places = [self._bind_output(interface.output_specs[name], *sizes) for name in outputs]
        self._session.run_with_iobinding(self._binding)
        if all(place is not None for place in places):
            return [place.copy() for place in places if place is not None]
        return [value.numpy().copy() for value in self._binding.get_outputs()]

    def _bind_output(self, spec: TensorSpec, rows: int, length: int) -> NDArray[Any] | None:
        """Bind an output to a buffer; where its size is not known, ONNX Runtime finds room."""
        shape = [size_of(size, rows, length) for size in spec.shape]
        if None in shape:
            self._binding.bind_output(spec.name, "cpu")
            return None
        dtype = NUMPY_DTYPES[spec.datatype]
        place = self._place(f"out {spec.name}", tuple(size or 0 for size in shape), dtype)
        address = place.ctypes.data
        self._binding.bind_output(spec.name, "cpu", 0, dtype.type, place.shape, address)
        return place

    def _place(self, key: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return an array of this shape at the beginning of its buffer."""
        num_bytes = int(np.prod(shape)) * dtype.itemsize
        buffer = self._buffers.get(key)
        if buffer is None or buffer.nbytes < num_bytes:
            buffer = self._buffers[key] = make_buffer(1 << (num_bytes - 1).bit_length())
            self._lock(buffer)
        return buffer[:num_bytes].view(dtype).reshape(shape)
