"""The two clients: one blocks, one awaits; all but the waiting is shared."""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from gatecast_client.answers import Forecast
from gatecast_client.errors import ProblemError, UnreachableError
from gatecast_client.requests import Series, Values, forecast_body, forecast_path, model_path
from gatecast_client.retries import RetryPolicy
from gatecast_client.tables import Columns, TableTask
from gatecast_client.tasks import (
    InputSequence,
    Predictions,
    SequenceClass,
    SequenceTags,
    SequenceValues,
    Steps,
    task_body,
    task_path,
)

Table = TypeVar("Table")

_TIMEOUT_S = 35.0
"""A little more than the service's own limit, whose answer says more."""

_FOREIGN = "the answer is no JSON object: is something else at this address, such as a login page?"


class _Connection:
    """What both clients are made with."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = _TIMEOUT_S,
        retries: RetryPolicy | None = None,
    ) -> None:
        headers = {"User-Agent": "gatecast-client"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        self._options: dict[str, Any] = {
            "base_url": base_url,
            "headers": headers,
            "timeout": timeout_s,
        }
        self._retries = retries or RetryPolicy()


class Client(_Connection):
    """Calls the service and waits for its answers; use it in a ``with`` block.

    Args:
        base_url: Address of the service, such as ``http://127.0.0.1:8080``.
        api_key: Sent as a bearer token.
        timeout_s: Longest silence of the service.
        retries: When to try again.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = _TIMEOUT_S,
        retries: RetryPolicy | None = None,
    ) -> None:
        super().__init__(base_url, api_key=api_key, timeout_s=timeout_s, retries=retries)
        self._http = httpx.Client(**self._options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def models(self) -> list[dict[str, Any]]:
        """List the models that are served."""
        found: list[dict[str, Any]] = self._call("GET", "/v1/models")["models"]
        return found

    def describe(self, model_name: str, model_version: int | None = None) -> dict[str, Any]:
        """Return a model's card, versions and limits."""
        return self._call("GET", model_path(model_name, model_version))

    def forecast(
        self,
        model_name: str,
        series: Sequence[Series | Values],
        *,
        model_version: int | None = None,
        horizon: int | None = None,
        quantile_levels: Sequence[float] | None = None,
        freq: str | None = None,
    ) -> Forecast:
        """Forecast series; one that is wrong has an ``error`` in the answer.

        Raises:
            ProblemError: The service refused the request, or failed.
            UnreachableError: No answer came.
        """
        body = forecast_body(series, horizon=horizon, quantile_levels=quantile_levels, freq=freq)
        return Forecast.from_json(
            self._call("POST", forecast_path(model_name, model_version), body)
        )

    def forecast_table(
        self,
        model_name: str,
        table: Table,
        *,
        columns: Columns | None = None,
        horizon: int | None = None,
        quantile_levels: Sequence[float] | None = None,
        freq: str | None = None,
    ) -> Table:
        """Forecast each series of a pandas or polars table in long format.

        A step without a row is a missing value. Rows after the last value of a series are its
        future: there covariates are read, no target.

        Args:
            model_name: What to forecast with.
            table: One row per series and time stamp.
            columns: How its columns are called.
            horizon: Steps ahead; the model's if left out.
            quantile_levels: Levels; the model's if left out.
            freq: Spacing of the rows; the model's if left out.

        Returns: A table of the same library, one row per series and step, one column per level.

        Raises:
            SeriesRefusedError: A series can not be forecast.
            ProblemError: The service refused the request, or failed.
            UnreachableError: No answer came.
        """
        card = self.describe(model_name)["card"] or {}
        task = TableTask(table, columns or Columns(), card, freq=freq, horizon=horizon)
        answers = [
            self.forecast(
                model_name,
                part,
                horizon=horizon,
                quantile_levels=quantile_levels,
                freq=freq,
            )
            for part in task.parts()
        ]
        return task.to_table(answers)

    def classify(
        self,
        model_name: str,
        sequences: Sequence[InputSequence | Steps],
        *,
        model_version: int | None = None,
    ) -> Predictions[SequenceClass]:
        """Find the class of each sequence; one that is wrong has an ``error`` in the answer.

        Raises:
            ProblemError: The service refused the request, or failed; 409 where the model has
                another task.
            UnreachableError: No answer came.
        """
        path = task_path(model_name, model_version, "classify")
        answer = self._call("POST", path, task_body(sequences))
        return Predictions.from_json(answer, SequenceClass.from_json)

    def regress(
        self,
        model_name: str,
        sequences: Sequence[InputSequence | Steps],
        *,
        model_version: int | None = None,
    ) -> Predictions[SequenceValues]:
        """Find numbers that belong to each sequence, as ``classify`` finds classes."""
        path = task_path(model_name, model_version, "regress")
        answer = self._call("POST", path, task_body(sequences))
        return Predictions.from_json(answer, SequenceValues.from_json)

    def tag(
        self,
        model_name: str,
        sequences: Sequence[InputSequence | Steps],
        *,
        model_version: int | None = None,
    ) -> Predictions[SequenceTags]:
        """Find the class of each step of each sequence, as ``classify`` that of the whole."""
        path = task_path(model_name, model_version, "tag")
        answer = self._call("POST", path, task_body(sequences))
        return Predictions.from_json(answer, SequenceTags.from_json)

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        attempt = 0
        while True:
            attempt += 1
            try:
                answer = self._http.request(method, path, json=body)
            except httpx.TransportError as error:
                wait = self._retries.wait_after_error(attempt, error)
                if wait is None:
                    raise _unreachable(error) from error
            else:
                wait = self._retries.wait_after_answer(attempt, answer)
                if wait is None:
                    return _read(answer)
            time.sleep(wait)


class AsyncClient(_Connection):
    """As ``Client``, with answers to be awaited; use it in an ``async with`` block."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = _TIMEOUT_S,
        retries: RetryPolicy | None = None,
    ) -> None:
        super().__init__(base_url, api_key=api_key, timeout_s=timeout_s, retries=retries)
        self._http = httpx.AsyncClient(**self._options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def models(self) -> list[dict[str, Any]]:
        """List the models that are served."""
        found: list[dict[str, Any]] = (await self._call("GET", "/v1/models"))["models"]
        return found

    async def describe(self, model_name: str, model_version: int | None = None) -> dict[str, Any]:
        """Return a model's card, versions and limits."""
        return await self._call("GET", model_path(model_name, model_version))

    async def forecast(
        self,
        model_name: str,
        series: Sequence[Series | Values],
        *,
        model_version: int | None = None,
        horizon: int | None = None,
        quantile_levels: Sequence[float] | None = None,
        freq: str | None = None,
    ) -> Forecast:
        """Forecast series, as ``Client.forecast``."""
        body = forecast_body(series, horizon=horizon, quantile_levels=quantile_levels, freq=freq)
        path = forecast_path(model_name, model_version)
        return Forecast.from_json(await self._call("POST", path, body))

    async def forecast_table(
        self,
        model_name: str,
        table: Table,
        *,
        columns: Columns | None = None,
        horizon: int | None = None,
        quantile_levels: Sequence[float] | None = None,
        freq: str | None = None,
    ) -> Table:
        """Forecast each series of a table, as ``Client.forecast_table``."""
        card = (await self.describe(model_name))["card"] or {}
        task = TableTask(table, columns or Columns(), card, freq=freq, horizon=horizon)
        answers = [
            await self.forecast(
                model_name,
                part,
                horizon=horizon,
                quantile_levels=quantile_levels,
                freq=freq,
            )
            for part in task.parts()
        ]
        return task.to_table(answers)

    async def classify(
        self,
        model_name: str,
        sequences: Sequence[InputSequence | Steps],
        *,
        model_version: int | None = None,
    ) -> Predictions[SequenceClass]:
        """Find the class of each sequence, as ``Client.classify``."""
        path = task_path(model_name, model_version, "classify")
        answer = await self._call("POST", path, task_body(sequences))
        return Predictions.from_json(answer, SequenceClass.from_json)

    async def regress(
        self,
        model_name: str,
        sequences: Sequence[InputSequence | Steps],
        *,
        model_version: int | None = None,
    ) -> Predictions[SequenceValues]:
        """Find numbers that belong to each sequence, as ``Client.regress``."""
        path = task_path(model_name, model_version, "regress")
        answer = await self._call("POST", path, task_body(sequences))
        return Predictions.from_json(answer, SequenceValues.from_json)

    async def tag(
        self,
        model_name: str,
        sequences: Sequence[InputSequence | Steps],
        *,
        model_version: int | None = None,
    ) -> Predictions[SequenceTags]:
        """Find the class of each step of each sequence, as ``Client.tag``."""
        path = task_path(model_name, model_version, "tag")
        answer = await self._call("POST", path, task_body(sequences))
        return Predictions.from_json(answer, SequenceTags.from_json)

    async def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        attempt = 0
        while True:
            attempt += 1
            try:
                answer = await self._http.request(method, path, json=body)
            except httpx.TransportError as error:
                wait = self._retries.wait_after_error(attempt, error)
                if wait is None:
                    raise _unreachable(error) from error
            else:
                wait = self._retries.wait_after_answer(attempt, answer)
                if wait is None:
                    return _read(answer)
            await asyncio.sleep(wait)


def _unreachable(error: httpx.TransportError) -> UnreachableError:
    return UnreachableError(f"no answer: {type(error).__name__} {error}".strip())


def _read(answer: httpx.Response) -> dict[str, Any]:
    found: Any = None
    with contextlib.suppress(ValueError):  # a proxy in between may answer anything
        found = answer.json()
    is_object = isinstance(found, dict)
    if not answer.is_success:
        raise ProblemError(answer.status_code, found if is_object else {})
    if not is_object:
        raise ProblemError(answer.status_code, {"detail": _FOREIGN})
    content: dict[str, Any] = found
    return content
