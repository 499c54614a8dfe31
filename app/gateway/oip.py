"""Inference by the Open Inference Protocol v2: tensors in, tensors out."""

import asyncio

from fastapi import Request
from starlette.responses import Response
from starlette.types import Receive, Scope

from app.gateway.body import cancel_when_caller_leaves, read_body
from app.gateway.catalog import Catalog, ReadyModel
from app.gateway.compression import LEAST_BYTES, choose_encoding, compress
from app.gateway.exchange import Answer, Header, exchange_of, header_of
from app.gateway.oip_models import fit_inputs, raw_input, wanted_outputs
from app.gateway.oip_request import (
    RequestedOutput,
    SequenceFlags,
    TensorRequest,
    parse_header_length,
    parse_raw_request,
    parse_request,
)
from app.gateway.oip_response import TensorAnswer, encode_answer
from app.gateway.parameters import TRAFFIC_KEY, ModelName, VersionOrLabel
from app.gateway.service import ForecastService
from app.settings import Settings
from app.tensors import Tensors
from app.wire import SequencePart

HEADER_LENGTH = "Inference-Header-Content-Length"
CONTENT_ENCODINGS = ("gzip", "deflate")

_HEADER_LENGTH_KEY = HEADER_LENGTH.lower().encode()
_INLINE_BYTES = 2**18
_PRIORITY = b'"priority"'
"""In every body that names one; whether those are refused depends on it."""
_JSON = (b"content-type", b"application/json")
_OCTETS = (b"content-type", b"application/octet-stream")
_VARY = (b"vary", b"Accept-Encoding")


class InferEndpoints:
    """``POST /v2/models/{model_name}/infer``, and the same with a version."""

    def __init__(self, service: ForecastService, catalog: Catalog, settings: Settings) -> None:
        self._service = service
        self._catalog = catalog
        self._settings = settings
        self._large_bodies = asyncio.Semaphore(1)

    async def infer(self, request: Request, model_name: ModelName) -> Response:
        """Run tensors through the default version of a model, or one that has a share of these.

        Requests of equal `X-Traffic-Key` headers, and those of one sequence, meet one version.
        """
        return await self.answer(request.scope, request.receive, model_name, None)

    async def infer_version(
        self, request: Request, model_name: ModelName, model_version: VersionOrLabel
    ) -> Response:
        """Run tensors through one version of a model, by its number or label."""
        return await self.answer(request.scope, request.receive, model_name, model_version)

    async def answer(
        self, scope: Scope, receive: Receive, model_name: str, model_version: str | None
    ) -> Response:
        """Run the tensors of a body; None means the default version, or one with a share.

        Raises:
            GatecastError: There is no such model, the request is wrong, or it can not be run now.
            CallerLeftError: The caller closed the connection.
        """
        exchange = exchange_of(scope)
        model = self._find(scope, model_name, model_version, header_of(scope, TRAFFIC_KEY))
        asked = await self._read(scope, receive, model)
        if asked.sequence is not None:  # all of its requests meet one version
            key = f"{exchange.key_id}\n{asked.sequence.id!r}"
            model = self._find(scope, model_name, model_version, key)
        inputs = fit_inputs(asked.inputs, model.interface)
        wanted = wanted_outputs(asked, model.interface)
        limit_s = min(self._settings.request_timeout_s, asked.timeout_s or float("inf"))
        with cancel_when_caller_leaves(receive):
            outputs = await self._service.infer(
                inputs,
                [output.name for output in wanted],
                model,
                deadline=exchange.started + limit_s,
                priority=asked.priority,
                sequence=_to_part(asked.sequence, model, owner=exchange.key_id),
            )
            answer = await _encode(asked.id, model, outputs, wanted)
            return await _respond(answer, header_of(scope, b"accept-encoding"))

    def _find(
        self, scope: Scope, model_name: str, model_version: str | None, key: str
    ) -> ReadyModel:
        version = model_version or self._catalog.draw(model_name, key)
        model = self._catalog.find_ready(model_name, version)
        exchange_of(scope).name_model(model.model_name, model.model_version, model.digest)
        return model

    async def _read(self, scope: Scope, receive: Receive, model: ReadyModel) -> TensorRequest:
        # The content type never decides: no client of the protocol sets a useful one.
        body = await read_body(
            scope,
            receive,
            encodings=CONTENT_ENCODINGS,
            max_bytes=self._settings.max_body_bytes,
            timeout_s=self._settings.body_timeout_s,
        )
        if _PRIORITY not in body:
            self._service.check_room(model.model_name)
        given = exchange_of(scope).headers.get(_HEADER_LENGTH_KEY)
        length = parse_header_length(given, len(body))
        if not length and given is not None:
            return parse_raw_request(body, raw_input(model.interface))
        if len(body) <= _INLINE_BYTES:
            return parse_request(body, length)
        async with self._large_bodies:  # as the native API does
            return await asyncio.to_thread(parse_request, body, length)


def _to_part(flags: SequenceFlags | None, model: ReadyModel, *, owner: str) -> SequencePart | None:
    if flags is None:
        return None
    return SequencePart(flags.id, flags.is_start, flags.is_end, owner, model.model_name)


async def _encode(
    request_id: str, model: ReadyModel, outputs: Tensors, wanted: tuple[RequestedOutput, ...]
) -> TensorAnswer:
    if sum(array.nbytes for array in outputs.values()) <= _INLINE_BYTES:
        return encode_answer(request_id, model, outputs, wanted)
    return await asyncio.to_thread(encode_answer, request_id, model, outputs, wanted)


async def _respond(answer: TensorAnswer, accept_encoding: str) -> Response:
    headers: tuple[Header, ...] = (_VARY, _JSON)
    if answer.header_length is not None:  # of the bytes before compression
        headers = (_VARY, _OCTETS, (_HEADER_LENGTH_KEY, b"%d" % answer.header_length))
    body = answer.body
    encoding = choose_encoding(accept_encoding) if len(body) >= LEAST_BYTES else ""
    if encoding:
        headers += ((b"content-encoding", encoding.encode()),)
        if len(body) > _INLINE_BYTES:
            body = await asyncio.to_thread(compress, body, encoding)
        else:
            body = compress(body, encoding)
    return Answer(body, headers)
