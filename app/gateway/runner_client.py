"""The gateway's end of the sockets to the runners."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from app.artifact import Card
from app.tensors import Tensors


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of one model, as the runners see it; ``card`` is None and ``reason`` set where it did not load."""

    model_name: str
    model_version: int
    card: Card | None
    reason: str


@dataclass(frozen=True, slots=True)
class Inference:
    """Rows to run; batch on axis 0. ``deadline`` is a time of ``time.monotonic()``; states may be left out."""

    model_name: str
    model_version: int
    inputs: Tensors
    outputs: tuple[str, ...]
    deadline: float


class Runners(Protocol):
    """All runners, as the rest of the gateway sees them."""

    @property
    def is_ready(self) -> bool:
        """Whether a runner is connected, has loaded its models and has been heard of lately."""
        ...

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda``; empty while no runner is connected."""
        ...

    def models(self) -> Sequence[ModelVersion]:
        """List every version of every model in the repository, ready or not; empty while no runner is connected."""
        ...

    async def infer(self, inference: Inference) -> Tensors:
        """Run rows on the least loaded runner; cancelling the call cancels the request.

        Raises:
            InvalidInputError: The tensors do not fit the model.
            ModelNotFoundError: No such model.
            ModelNotReadyError: No runner, the runner was lost, or the model did not load.
            OverloadedError: The queue is full.
            DeadlineExceededError: The deadline passed first.
            ShuttingDownError: The runner is draining.
            EngineError: The run failed.
        """
        ...
