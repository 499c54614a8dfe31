"""Runs the batches of a bulk run in a running service, several requests at a time.

Batches go as binary tensors of the Open Inference Protocol: nobody writes or reads a number as
text. The only module of ``app.bulk`` that speaks HTTP.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
import numpy as np
import orjson
import urllib3
from numpy.typing import NDArray
from pydantic import ValidationError
from typing_extensions import override
from urllib3.exceptions import HTTPError, MaxRetryError
from urllib3.response import BaseHTTPResponse
from urllib3.util import Retry, Timeout

from app.artifact.card import Card
from app.artifact.specs import TensorSpec
from app.bulk.forecaster import BatchLimits, BulkForecaster, BulkModel
from app.errors import RemoteError
from app.tensors import DATATYPES, NUMPY_DTYPES, Tensors, tensor_bytes

REQUESTS_IN_FLIGHT = 8

_MAX_ROWS = 256
_BYTES_OF_A_STEP = 8
"""Of the body, at most: a number, and room for its share of the others."""
_TIMEOUT = Timeout(connect=10, read=120)
_RETRIES = Retry(
    total=10, backoff_factor=0.25, backoff_max=20, backoff_jitter=0.25, allowed_methods=None
)
_FIRST_RETRIES = _RETRIES.new(connect=2)
"""Before a run has begun, whoever waits for it wants to know soon that nobody is there."""
_LONGEST_WAIT_S = 60.0
_RETRIED = frozenset({429, 502, 503})
_TOO_MUCH = frozenset({413, 504})
_LENGTH_HEADER = "Inference-Header-Content-Length"


class _Limits(msgspec.Struct):
    max_body_bytes: int
    max_series: int
    max_steps: int


class _Description(msgspec.Struct):
    model_version: int
    is_ready: bool
    reason: str
    limits: _Limits
    card: dict[str, Any] | None


class _Output(msgspec.Struct):
    name: str
    shape: list[int]


class _Answer(msgspec.Struct):
    outputs: list[_Output]


class _Refusal(msgspec.Struct):
    error: str = ""
    detail: str = ""


class _TooMuchError(RemoteError):
    """The service can not do a request of this size, or not in time."""


class _Service:
    """A running service, asked again while it is busy or away."""

    def __init__(self, url: str, api_key: str, connections: int) -> None:
        if urlsplit(url).scheme not in {"http", "https"}:
            raise RemoteError(f"{url} is no http:// or https:// address")
        self.url = url.rstrip("/")
        self.retries = _FIRST_RETRIES
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._pool = urllib3.PoolManager(num_pools=1, maxsize=connections, timeout=_TIMEOUT)

    async def call(
        self, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> BaseHTTPResponse:
        """Return a good answer.

        Raises:
            RemoteError: The service refuses, or does not come back.
        """
        method = "GET" if body is None else "POST"
        all_headers = {**self._headers, **(headers or {})}
        retries = self.retries
        while True:
            answer, error = None, None
            try:
                answer = await asyncio.to_thread(
                    self._pool.request, method, self.url + path, body=body, headers=all_headers,
                    retries=False, redirect=False,
                )  # fmt: skip
            except HTTPError as failure:
                error = failure
            if answer is not None and answer.status not in _RETRIED:
                return self._check(answer)
            try:
                retries = retries.increment(method, path, response=answer, error=error)
            except MaxRetryError as last:
                if answer is not None:
                    return self._check(answer)
                raise RemoteError(f"can not reach {self.url}: {error}") from last
            await asyncio.sleep(_wait(retries, answer))

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def _check(self, answer: BaseHTTPResponse) -> BaseHTTPResponse:
        if answer.status == HTTPStatus.OK:
            return answer
        try:
            refusal = msgspec.json.decode(answer.data, type=_Refusal)
        except (msgspec.DecodeError, UnicodeDecodeError):
            refusal = _Refusal()
        said = refusal.error or refusal.detail or answer.reason or ""
        kind = _TooMuchError if answer.status in _TOO_MUCH else RemoteError
        raise kind(" ".join(f"{self.url} answers {answer.status}: {said}".split()))


def _wait(retries: Retry, answer: BaseHTTPResponse | None) -> float:
    asked = retries.get_retry_after(answer) if answer is not None else None
    return retries.get_backoff_time() if asked is None else min(asked, _LONGEST_WAIT_S)


class RemoteForecaster(BulkForecaster):
    """Runs a model of a service; made by ``open_remote``."""

    def __init__(
        self, service: _Service, model: BulkModel, limits: BatchLimits, concurrency: int
    ) -> None:
        self.model = model
        self.limits = limits
        self.concurrency = concurrency
        self._service = service

    @override
    async def infer(self, inputs: Tensors) -> NDArray[np.float32]:
        """Run one batch; what is too much for the service is halved.

        Raises:
            RemoteError: The service refuses, does not come back, or has another model now.
        """
        try:
            digest, quantiles = await _infer(self._service, self.model, inputs)
        except _TooMuchError:
            rows = len(inputs["past_target"])
            if rows == 1:
                raise
            halves = (slice(None, rows // 2), slice(rows // 2, None))
            parts = [await self.infer({n: a[half] for n, a in inputs.items()}) for half in halves]
            return np.concatenate(parts)
        if digest != self.model.digest:
            raise RemoteError(
                f"the service has another model {self.model.model_name} now; the same command "
                "begins anew with it"
            )
        return quantiles


@asynccontextmanager
async def open_remote(
    url: str,
    model_name: str,
    model_version: int | None = None,
    *,
    api_key: str = "",
    in_flight: int | None = None,
) -> AsyncGenerator[RemoteForecaster]:
    """Look a model up in a running service.

    Args:
        url: Address of the service, such as ``http://127.0.0.1:8080``.
        model_name: Name of the model.
        model_version: Its version; None takes the service's default.
        api_key: A key; may be empty.
        in_flight: Requests at a time.

    Raises:
        RemoteError: The service is not there, or has no such forecaster.
    """
    concurrency = in_flight or REQUESTS_IN_FLIGHT
    service = _Service(url, api_key, concurrency)
    try:
        description, card = await _describe(service, model_name, model_version)
        limits = BatchLimits(
            max_batch_size=min(_MAX_ROWS, description.limits.max_series),
            max_batch_steps=min(
                description.limits.max_steps, description.limits.max_body_bytes // _BYTES_OF_A_STEP
            ),
        )
        model = BulkModel(model_name, description.model_version, "", card, "a service")
        digest, _ = await _infer(service, model, _smallest_batch(card))
        model = BulkModel(model_name, description.model_version, digest, card, "a service")
        service.retries = _RETRIES
        yield RemoteForecaster(service, model, limits, concurrency)
    finally:
        service.close()


async def _describe(
    service: _Service, model_name: str, model_version: int | None
) -> tuple[_Description, Card]:
    version = "" if model_version is None else f"/versions/{model_version}"
    answer = await service.call(f"/v1/models/{quote(model_name, safe='')}{version}")
    try:
        found = msgspec.json.decode(answer.data, type=_Description)
        is_forecaster = found.card is not None and found.card.get("task") == "forecast"
        card = Card.model_validate(found.card) if is_forecaster else None
    except (msgspec.DecodeError, UnicodeDecodeError, ValidationError) as error:
        raise RemoteError(f"{service.url} gave no description of a model") from error
    if card is None:
        raise RemoteError(
            f"model {model_name} makes no forecasts{found.reason and ': '}{found.reason}"
        )
    return found, card


async def _infer(
    service: _Service, model: BulkModel, inputs: Tensors
) -> tuple[str, NDArray[np.float32]]:
    """Return the digest of the model that ran, and its quantiles."""
    header, body = _encode(inputs)
    name = quote(model.model_name, safe="")
    answer = await service.call(
        f"/v2/models/{name}/versions/{model.model_version}/infer",
        body,
        {"Content-Type": "application/octet-stream", _LENGTH_HEADER: str(header)},
    )
    return answer.headers.get("X-Model-Digest", ""), _decode(service.url, answer)


def _encode(inputs: Tensors) -> tuple[int, bytes]:
    """Return the length of the JSON, and the body."""
    blocks = [tensor_bytes(array) for array in inputs.values()]
    header = orjson.dumps(
        {
            "inputs": [
                {
                    "name": name,
                    "datatype": DATATYPES[array.dtype],
                    "shape": array.shape,
                    "parameters": {"binary_data_size": len(block)},
                }
                for (name, array), block in zip(inputs.items(), blocks, strict=True)
            ],
            "outputs": [{"name": "quantiles", "parameters": {"binary_data": True}}],
        }
    )
    return len(header), b"".join([header, *blocks])


def _decode(url: str, answer: BaseHTTPResponse) -> NDArray[np.float32]:
    try:
        header = int(answer.headers.get(_LENGTH_HEADER, ""))
        shape = msgspec.json.decode(answer.data[:header], type=_Answer).outputs[0].shape
        return np.frombuffer(answer.data[header:], np.float32).reshape(shape)
    except (ValueError, msgspec.DecodeError, IndexError) as error:
        raise RemoteError(f"{url} gave no tensors") from error


def _smallest_batch(card: Card) -> Tensors:
    """Return one row of one step."""
    sizes = {"batch": 1, "time": 1, "time+horizon": 1 + card.horizon}
    return {spec.name: _ones(spec, sizes) for spec in card.inputs}


def _ones(spec: TensorSpec, sizes: Mapping[str, int]) -> NDArray[Any]:
    shape = [sizes[size] if isinstance(size, str) else size for size in spec.shape]
    return np.ones(shape, NUMPY_DTYPES[spec.datatype])
