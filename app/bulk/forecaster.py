"""What makes the numbers of a bulk run: every way of running a model follows this protocol."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.artifact.card import Card
from app.errors import ModelOutputError
from app.tensors import Tensors


@dataclass(frozen=True, slots=True)
class BulkModel:
    """The model version that a run forecasts with.

    Attributes:
        digest: Of its file.
        runtime: What runs it, such as ``onnxruntime 1.31.0 on cpu``. Two runtimes agree to rounding
            only, so a run that is resumed must have the same one.
    """

    model_name: str
    model_version: int
    digest: str
    card: Card
    runtime: str


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchLimits:
    """Bounds of one model run, as in Settings; which rows share a run follows from them alone."""

    max_batch_size: int
    max_batch_steps: int
    max_padding_share: float = 0.25


class BulkForecaster(Protocol):
    """Runs batches of one model.

    Attributes:
        model: The model.
        limits: Bounds of a batch.
        concurrency: Calls at a time that keep it busy.
    """

    model: BulkModel
    limits: BatchLimits
    concurrency: int

    @abstractmethod
    async def infer(self, inputs: Tensors) -> NDArray[np.float32]:
        """Run one batch, within the limits.

        Returns: Quantiles, ``(batch, horizon, num_quantiles)``, as the model gives them.

        Raises:
            ModelOutputError: A number is not finite; rows of the batch may be sound by themselves.
            GatecastError: The run can not go on; begun again later, it may.
        """

    async def infer_all(self, batches: Sequence[Tensors]) -> list[NDArray[np.float32] | None]:
        """Run some batches, one after the other.

        Returns: As ``infer`` for each of them; None where a number is not finite.

        Raises:
            GatecastError: As ``infer``.
        """
        outputs: list[NDArray[np.float32] | None] = []
        for inputs in batches:
            try:
                outputs.append(await self.infer(inputs))
            except ModelOutputError:
                outputs.append(None)
        return outputs
