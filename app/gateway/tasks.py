"""Answers requests to classify, regress or tag: bytes to sequences, answers to bytes."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec
import numpy as np
import orjson
from fastapi import Request
from numpy.typing import NDArray
from starlette.responses import Response
from starlette.types import Receive, Scope

from app.artifact import SequenceCard, SequenceTask
from app.gateway.bodies import Bodies
from app.gateway.body import cancel_when_caller_leaves
from app.gateway.catalog import Catalog, SequenceModel
from app.gateway.decoding import decode_body
from app.gateway.exchange import Answer, exchange_of, header_of
from app.gateway.forecast import (
    LARGEST_TIMEOUT_MS,
    TRAFFIC_KEY,
    ModelName,
    TimeoutMs,
    VersionOrLabel,
)
from app.gateway.problems import series_error
from app.gateway.task_preparation import PreparedSequences
from app.gateway.task_schemas import TaskRequest
from app.gateway.task_service import TaskAnswer, TaskService
from app.settings import Settings

Json = dict[str, Any]

_HEADERS = ((b"content-type", b"application/json"),)
_INLINE_NUMBERS = 2**13

_decoder = msgspec.json.Decoder(TaskRequest)


class TaskEndpoints:
    """``POST /v1/models/{model_name}/{task}``, and the same with a version, for one task."""

    def __init__(
        self,
        task: SequenceTask,
        service: TaskService,
        catalog: Catalog,
        bodies: Bodies,
        settings: Settings,
    ) -> None:
        self._task: SequenceTask = task
        self._service = service
        self._catalog = catalog
        self._bodies = bodies
        self._settings = settings

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

    async def answer(
        self,
        scope: Scope,
        receive: Receive,
        model_name: str,
        model_version: str | None,
        *,
        timeout_ms: int,
    ) -> Response:
        """Answer the sequences of a body; None means the default version, or one with a share.

        Raises:
            GatecastError: There is no such model, it has another task, the request is wrong, or it
                can not be run now.
            CallerLeftError: The caller closed the connection.
        """
        model = self._find(scope, model_name, model_version)
        self._service.check_room(model.model_name)
        prepared = await self._bodies.read(scope, receive, partial(self._prepare, model))
        limit_s = min(self._settings.request_timeout_s, timeout_ms / 1000)
        with cancel_when_caller_leaves(receive):
            answer = await self._service.answer(
                prepared, model, deadline=exchange_of(scope).started + limit_s
            )
            content = await _encode(answer)
        return Answer(content, _HEADERS)

    def _find(self, scope: Scope, model_name: str, model_version: str | None) -> SequenceModel:
        if model_version is None:
            model_version = self._catalog.draw(model_name, header_of(scope, TRAFFIC_KEY))
        model = self._catalog.find_able(self._task, model_name, model_version)
        exchange_of(scope).name_model(model.model_name, model.model_version, model.digest)
        return model

    def _prepare(self, model: SequenceModel, body: bytes) -> PreparedSequences:
        return self._service.prepare(decode_body(body, _decoder), model)


async def _encode(answer: TaskAnswer) -> bytes:
    if sum(output.size for output in answer.outputs.values()) <= _INLINE_NUMBERS:
        return encode_answer(answer)
    return await asyncio.to_thread(encode_answer, answer)


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
