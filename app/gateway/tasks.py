"""Answers requests to classify, regress or tag: bytes to sequences, answers to bytes."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import numpy as np
import orjson
from fastapi import Request
from numpy.typing import NDArray
from starlette.responses import Response
from starlette.types import Scope
from typing_extensions import override

from app.artifact.sequence_card import SequenceCard, SequenceTask
from app.gateway.bodies import Bodies
from app.gateway.catalog import Catalog, SequenceModel
from app.gateway.decoding import decode_body
from app.gateway.native import NativeEndpoints
from app.gateway.parameters import LARGEST_TIMEOUT_MS, ModelName, TimeoutMs, VersionOrLabel
from app.gateway.problems import series_error
from app.gateway.task_preparation import PreparedSequences
from app.gateway.task_schemas import TaskRequest
from app.gateway.task_service import TaskAnswer, TaskService
from app.settings import Settings

Json = dict[str, Any]

_INLINE_NUMBERS = 2**13

_decoder = msgspec.json.Decoder(TaskRequest)


class TaskEndpoints(NativeEndpoints[SequenceModel, PreparedSequences, TaskAnswer]):
    """``POST /v1/models/{model_name}/{task}``, and the same with a version, for one task."""

    def __init__(
        self,
        task: SequenceTask,
        service: TaskService,
        catalog: Catalog,
        bodies: Bodies,
        settings: Settings,
    ) -> None:
        super().__init__(service, catalog, bodies, settings)
        self._task: SequenceTask = task
        self._service = service

    async def answer_default(
        self, request: Request, model_name: ModelName, timeout_ms: TimeoutMs = LARGEST_TIMEOUT_MS
    ) -> Response:
        """Answer with the default version of a model, or one that has a share of these."""
        return await self.answer(
            request.scope, request.receive, model_name, None, timeout_ms=timeout_ms
        )

    async def answer_version(
        self,
        request: Request,
        model_name: ModelName,
        model_version: VersionOrLabel,
        timeout_ms: TimeoutMs = LARGEST_TIMEOUT_MS,
    ) -> Response:
        """Answer with one version of a model, by its number or label."""
        return await self.answer(
            request.scope, request.receive, model_name, model_version, timeout_ms=timeout_ms
        )

    @override
    def _find_able(self, model_name: str, model_version: str | None) -> SequenceModel:
        return self._catalog.find_able(self._task, model_name, model_version)

    @override
    def _prepare(self, model: SequenceModel, body: bytes) -> PreparedSequences:
        return self._service.prepare(decode_body(body, _decoder), model)

    @override
    def _run(
        self, scope: Scope, model: SequenceModel, prepared: PreparedSequences, *, deadline: float
    ) -> Awaitable[TaskAnswer]:
        return self._service.answer(prepared, model, deadline=deadline)

    @override
    def _is_small(self, answered: TaskAnswer) -> bool:
        return sum(output.size for output in answered.outputs.values()) <= _INLINE_NUMBERS

    @override
    def _encode(self, answered: TaskAnswer) -> bytes:
        return encode_answer(answered)


def encode_answer(answer: TaskAnswer) -> bytes:
    """Write the response of the model's task; float32 numbers keep their shortest exact form."""
    card = answer.model.card
    to_content = _CONTENTS[card.task]
    predictions: list[Json] = []
    for position, item_id in enumerate(answer.item_ids):
        content: Json = {} if item_id is None else {"item_id": item_id}
        if refusal := answer.refusals.get(position):
            content["error"] = series_error(refusal)
        else:
            content |= to_content(card, answer.outputs[position])
        predictions.append(content)
    response = {
        "model_name": answer.model.model_name,
        "model_version": answer.model.model_version,
        "predictions": predictions,
    }
    return orjson.dumps(response, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def _to_class(card: SequenceCard, probabilities: NDArray[np.float32]) -> Json:
    return {
        "class": card.classes[int(probabilities.argmax())],
        "probabilities": dict(zip(card.classes, probabilities, strict=True)),
    }


def _to_values(card: SequenceCard, values: NDArray[np.float32]) -> Json:
    return {"values": dict(zip(card.targets, values, strict=True))}


def _to_tags(card: SequenceCard, probabilities: NDArray[np.float32]) -> Json:
    columns = np.ascontiguousarray(probabilities.T)
    return {
        "classes": [card.classes[place] for place in probabilities.argmax(axis=1).tolist()],
        "probabilities": dict(zip(card.classes, columns, strict=True)),
    }


_CONTENTS: Mapping[SequenceTask, Callable[[SequenceCard, NDArray[np.float32]], Json]] = {
    "classify": _to_class,
    "regress": _to_values,
    "tag": _to_tags,
}
