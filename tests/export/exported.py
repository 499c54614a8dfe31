"""An exported forecaster with its checkpoint and an engine that runs it."""

from dataclasses import dataclass
from typing import Any

from app.artifact.golden_case import relative_error
from app.runner.engine import OrtEngine
from app.tensors import Tensors
from models.checkpoint import Checkpoint
from tests.tiny_artifact import tiny_artifact, tiny_checkpoint

RELATIVE_LIMIT = 1e-5
"""What float32 rounding explains, and the promise to callers."""


@dataclass(frozen=True)
class Exported:
    checkpoint: Checkpoint
    model: bytes
    engine: OrtEngine

    def run(self, inputs: Tensors) -> Tensors:
        """Return every output."""
        card = self.engine.card
        return self.engine.run(inputs, ["quantiles", *(state.next_name for state in card.states)])

    def carry(self, outputs: Tensors) -> Tensors:
        """Return the states to go on from."""
        return {state.name: outputs[state.next_name] for state in self.engine.card.states}


def export_tiny(**overrides: Any) -> Exported:
    model = tiny_artifact(**overrides)
    return Exported(tiny_checkpoint(**overrides), model, OrtEngine.from_bytes(model, "cpu"))


def largest_error(got: Tensors, want: Tensors) -> float:
    return max(relative_error(got[name], want[name]) for name in want)
