"""Answers of the models that classify, regress or tag, without HTTP: sequences in, numbers out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidInputError
from app.gateway.catalog import SequenceModel
from app.gateway.chunks import cut_into_chunks, pad
from app.gateway.inferences import check_finite, infer_all
from app.gateway.runners import Inference, Runners
from app.gateway.task_preparation import PreparedSequences, SequenceRow, prepare_sequences
from app.gateway.task_schemas import TaskRequest
from app.metrics import SERIES
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class TaskAnswer:
    """Answers to a request, by position in it; each is in exactly one of the two mappings.

    Attributes:
        outputs: ``(num_classes,)`` probabilities, ``(num_targets,)`` values or, of a model that
            tags, ``(time, num_classes)`` probabilities.
    """

    model: SequenceModel
    item_ids: tuple[str | None, ...]
    outputs: Mapping[int, NDArray[np.float32]]
    refusals: Mapping[int, InvalidInputError]


class TaskService:
    """Classifies, regresses and tags with the runners."""

    def __init__(self, runners: Runners, settings: Settings) -> None:
        self._runners = runners
        self._settings = settings

    def prepare(self, request: TaskRequest, model: SequenceModel) -> PreparedSequences:
        """Check a request and turn its sequences into rows; a wrong one is refused in its place.

        This only computes; a large request is better prepared off the event loop.

        Raises:
            InvalidInputError: The request, or every sequence in it, is wrong.
        """
        return prepare_sequences(request, model.card, self._settings)

    def check_room(self, model_name: str) -> None:
        """Refuse early what the runners would refuse, as ``Runners.check_room``."""
        self._runners.check_room(model_name)

    async def answer(
        self, prepared: PreparedSequences, model: SequenceModel, *, deadline: float
    ) -> TaskAnswer:
        """Answer all sequences of a request that ``prepare`` made for the same model.

        Args:
            prepared: The sequences.
            model: What to run them with.
            deadline: Time of ``time.monotonic()`` by which the answer is needed.

        Raises:
            GatecastError: As ``Runners.infer``; then no sequence has an answer.
        """
        limits = model.config.for_model(self._settings)
        chunks = cut_into_chunks(prepared.rows, limits)
        name = "values" if model.card.task == "regress" else "probabilities"
        ask = partial(_to_inference, model=model, output=name, deadline=deadline)
        max_wait_s = limits.max_queue_wait_ms / 1000
        parts = [partial(ask, rows, max_wait_s=max_wait_s) for rows in chunks]
        ran = await infer_all(self._runners, parts)
        outputs = {
            row.position: output[: row.num_steps] if model.card.task == "tag" else output
            for rows, tensors in zip(chunks, ran, strict=True)
            for row, output in zip(rows, check_finite(tensors[name]), strict=True)
        }
        version = (model.model_name, str(model.model_version))
        SERIES.labels(*version, model.card.task).inc(len(outputs))
        SERIES.labels(*version, "refused").inc(len(prepared.refusals))
        return TaskAnswer(model, prepared.item_ids, outputs, prepared.refusals)


def _to_inference(
    rows: Sequence[SequenceRow],
    *,
    model: SequenceModel,
    output: str,
    deadline: float,
    max_wait_s: float,
) -> Inference:
    sequence = pad([row.values for row in rows])
    lengths = np.array([row.num_steps for row in rows], np.int32)
    return Inference(
        model_name=model.model_name,
        model_version=model.model_version,
        inputs={"sequence": sequence, "sequence_lens": lengths},
        outputs=(output,),
        deadline=deadline,
        steps=sequence.shape[0] * sequence.shape[1],
        max_wait_s=max_wait_s,
    )
