"""An engine without a model: it answers from the inputs, can be held back and can fail."""

import threading
from collections.abc import Sequence

import numpy as np

from app.artifact.specs import TensorSpec
from app.interface import BATCH, TIME, Interface
from app.tensors import Tensors

INTERFACE = Interface(
    inputs=(
        TensorSpec(name="past_target", datatype="FP32", shape=(BATCH, TIME)),
        TensorSpec(name="sequence_lens", datatype="INT32", shape=(BATCH,)),
    ),
    outputs=(
        TensorSpec(name="sum", datatype="FP32", shape=(BATCH,)),
        TensorSpec(name="length", datatype="FP32", shape=(BATCH,)),
    ),
    lengths="sequence_lens",
    is_mergeable=True,
)
"""Of ``FakeEngine``."""


class FakeEngine:
    """Gives each row its length and the sum of its valid values, and keeps a record of its runs.

    Args:
        gate: Every run waits for it, where there is one.
    """

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.interface = INTERFACE
        self.gate = gate
        self.error: Exception | None = None
        self.shapes: list[tuple[int, ...]] = []

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        past_target, lengths = inputs["past_target"], inputs["sequence_lens"]
        self.shapes.append(past_target.shape)
        if self.gate is not None:
            assert self.gate.wait(10)
        if self.error is not None:
            raise self.error
        valid = np.arange(past_target.shape[1]) < lengths[:, None]
        results = {
            "length": lengths.astype(np.float32),
            "sum": np.where(valid, past_target, 0).sum(axis=1, dtype=np.float32),
        }
        return {name: results[name] for name in outputs}
