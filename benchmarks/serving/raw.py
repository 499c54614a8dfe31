"""The measured models in ONNX Runtime alone, on one thread: the limit of any server's speed."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from app.runner.engine import OrtEngine
from app.tensors import Tensors
from benchmarks.serving.models import lstm_model

_LEAST_RUNS = 5


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds a series, on the clock and of the processor."""

    wall_us: float
    cpu_us: float

    @property
    def per_s(self) -> float:
        """Series a second."""
        return 1e6 / self.wall_us


class RawModel:
    """A model without a server.

    Args:
        model: The file.
        output: What it is asked for.
        feeds_of: Makes its inputs of histories ``(batch, time, 1)``.
    """

    def __init__(
        self, model: bytes, output: str, feeds_of: Callable[[NDArray[np.float32]], Tensors]
    ) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._output = output
        self._feeds_of = feeds_of

    @classmethod
    def plain(cls, hidden_size: int) -> Self:
        """Open the plain LSTM of that size."""
        model = lstm_model(hidden_size, has_lengths=False)
        return cls(model, "forecast", lambda history: {"history": history})

    @classmethod
    def forecaster(cls, model: bytes) -> Self:
        """Open an artifact that takes no covariates; its states begin anew."""
        interface = OrtEngine.from_bytes(model, "cpu").interface

        def feeds_of(history: NDArray[np.float32]) -> Tensors:
            rows, steps, _ = history.shape
            return interface.initial_states(rows) | {
                "past_target": np.ascontiguousarray(history[:, :, 0]),
                "sequence_lens": np.full(rows, steps, np.int32),
            }

        return cls(model, "quantiles", feeds_of)

    def run(self, history: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return ``(batch, horizon, num_levels)``."""
        (forecast,) = self._session.run([self._output], self._feeds_of(history))
        return np.asarray(forecast)

    def measure(self, history: NDArray[np.float32], seconds: float) -> "Cost":
        """Return what one series costs when the same ``history`` is run again and again."""
        feeds = self._feeds_of(history)
        self._session.run([self._output], feeds)
        spent: list[tuple[float, float]] = []
        deadline = time.perf_counter() + seconds
        while len(spent) < _LEAST_RUNS or time.perf_counter() < deadline:
            wall, cpu = time.perf_counter(), time.thread_time()
            self._session.run([self._output], feeds)
            spent.append((time.perf_counter() - wall, time.thread_time() - cpu))
        return Cost(*(1e6 * np.median(spent, axis=0) / len(history)).tolist())
