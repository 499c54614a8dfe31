"""What the gateway wants of the runners, and what they tell of their models."""

import math
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal, Protocol

from app.artifact.metadata import AnyCard
from app.interface import Interface
from app.model_config import LabelChange, ModelConfig
from app.statistics import VersionStatistics
from app.tensors import Tensors
from app.wire import (
    SequencePart,
)

CALLER: ContextVar[str] = ContextVar("caller", default="")
"""Id of the key of the request that the current task answers; empty without one."""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of one model.

    Attributes:
        interface: None where it did not load.
        reason: Why it did not load; empty where it did.
        card: None where it did not load, and where it is served as tensors alone.
        digest: SHA-256 of its file, empty where it did not load.
        config: How the model is served, all its versions alike.
        config_refusal: Why the config that lies beside it now does not count.
    """

    model_name: str
    model_version: int
    interface: Interface | None
    reason: str = ""
    card: AnyCard | None = None
    digest: str = ""
    config: ModelConfig = field(default_factory=ModelConfig)
    config_refusal: str = ""

    @property
    def is_ready(self) -> bool:
        """Whether it can be run."""
        return self.interface is not None


@dataclass(frozen=True, slots=True)
class Inference:
    """Rows to run; states may be left out.

    Attributes:
        deadline: Time of ``time.monotonic()``.
        steps: Padded steps of all rows.
        priority: 1 is the highest, 0 leaves it to the service; see also ``BACKGROUND_PRIORITY``.
        sequence: Where the request stands in a sequence, whose states the runner puts in.
        owner: Id of the caller's key, where states may be kept for it; None where not.
        part: Place among the parts of a request that is too large for one run; None where it is
            whole.
        max_wait_s: Longest, by estimate, that it may wait for its run.
    """

    model_name: str
    model_version: int
    inputs: Tensors
    outputs: tuple[str, ...]
    deadline: float
    steps: int
    priority: int = 0
    sequence: SequencePart | None = None
    owner: str | None = None
    part: int | None = None
    max_wait_s: float = math.inf

    @property
    def flow(self) -> str:
        """What takes turns with others at the runner: a caller, and apart from it its large ones.

        So neither another caller nor a large request holds up small ones.
        """
        return CALLER.get() if self.part is None else f"{CALLER.get()} large"


ChangeAction = Literal["load", "unload"]


class Runners(Protocol):
    """All runners, as the rest of the gateway sees them."""

    @property
    def is_ready(self) -> bool:
        """Whether a runner is connected, has loaded its models and was heard of lately."""
        ...

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda``; empty while no runner is connected."""
        ...

    @property
    def num_runners(self) -> int:
        """How many runners serve, be they up or not."""
        ...

    @property
    def is_complete(self) -> bool:
        """Whether every runner that may serve models of its own was heard of since the start."""
        ...

    def models(self) -> Sequence[ModelVersion]:
        """List every version, ready or not; empty while no runner is connected."""
        ...

    async def statistics(self, timeout_s: float) -> Sequence[VersionStatistics]:
        """Sum what all runners have done since the service started, by model and version.

        A runner that is not up, or does not answer in ``timeout_s``, counts with what it has on
        file, which is all that it ever told.
        """
        ...

    async def change(self, action: ChangeAction, model_name: str) -> None:
        """Load what is new of a model on all runners, or unload it.

        Raises:
            ModelNotFoundError: There is no such model.
            ModelRefusedError: A version or its config is not sound; what was served still is.
            ModelNotReadyError: No runner is up, or one was lost.
            DeadlineExceededError: A runner did not answer in time.
        """
        ...

    async def label(self, model_name: str, change: LabelChange) -> None:
        """Change a label of a model on all runners.

        Raises:
            GatecastError: As ``change``.
            InvalidInputError: The version is not served, and no share of it was named.
        """
        ...

    def batch_size_cap(self, model_name: str, model_version: int) -> int | None:
        """Return the most rows of the next run of a version on any runner; None until one said so.

        Where it is fitted, that is the size beyond which the machine gains nothing.
        """
        ...

    def check_room(self, model_name: str) -> None:
        """Refuse early what a runner would refuse, as far as it has said so a moment ago.

        It is about requests of the current task's caller that are small and of common priority.

        Raises:
            OverloadedError: The caller has too much work waiting.
        """
        ...

    async def infer(self, inference: Inference) -> Tensors:
        """Run rows on the least loaded runner; cancelling the call cancels the request.

        Where states may be kept, a history goes to the same runner as long as that one is not much
        busier than the others. A part of a sequence goes to the runner that keeps it.

        Raises:
            InvalidInputError: The tensors do not fit the model.
            ModelNotFoundError: No such model.
            ModelNotReadyError: No runner is up, or the runner was lost.
            OverloadedError: The queue is full.
            DeadlineExceededError: The deadline passed first.
            ShuttingDownError: The runner is draining.
            EngineError: The run failed.
            UnknownSequenceError: There is no such sequence.
            SequenceConflictError: The sequence can not go on.
        """
        ...
