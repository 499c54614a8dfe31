"""TimeGPT's API, as the ``nixtla`` SDK calls it.

There are no names on this wire: series are cut from one list by ``sizes``, covariates are taken in
the order of the model's card, and answers are flat. ``mean`` is the median; an interval of level 80
lies between the quantiles 0.1 and 0.9.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
import orjson
from fastapi import Request
from starlette.responses import Response

from app.errors import InvalidInputError, NotSupportedError
from app.gateway.catalog import Catalog, Forecaster
from app.gateway.decoding import decode_body
from app.gateway.dialects.adapter import (
    GZIP,
    Adapter,
    Question,
    check_series_count,
    refuse_wrong_series,
)
from app.gateway.dialects.timegpt_levels import Intervals
from app.gateway.dialects.timegpt_schemas import (
    TimeGptAnomalies,
    TimeGptCrossValidation,
    TimeGptForecast,
    TimeGptOnlineAnomalies,
)
from app.gateway.dialects.timegpt_task import (
    Body,
    FlatTask,
    Quantiles,
    check_sizes,
    check_wishes,
    freq_alias,
)
from app.gateway.dialects.windows import (
    Window,
    windows_at_ends,
    windows_before_ends,
    windows_over_history,
    windows_over_newest,
)
from app.gateway.service import Forecast

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
_ENCODINGS = (*GZIP, "zstd")

_forecast_decoder = msgspec.json.Decoder(TimeGptForecast)
_cross_validation_decoder = msgspec.json.Decoder(TimeGptCrossValidation)
_anomalies_decoder = msgspec.json.Decoder(TimeGptAnomalies)
_online_decoder = msgspec.json.Decoder(TimeGptOnlineAnomalies)


class TimeGptEndpoints:
    """What the SDK calls, and a clear refusal of what only the provider has."""

    def __init__(self, adapter: Adapter, catalog: Catalog) -> None:
        self._adapter = adapter
        self._catalog = catalog

    async def forecast(self, request: Request) -> Response:
        """Forecast each series beyond its end."""
        return await self._answer(request, self._understand_forecast)

    async def cross_validation(self, request: Request) -> Response:
        """Forecast each series from origins in its history."""
        return await self._answer(request, self._understand_cross_validation)

    async def anomaly_detection(self, request: Request) -> Response:
        """Tell which values of the whole history are outside their interval."""
        return await self._answer(request, self._understand_anomalies)

    async def online_anomaly_detection(self, request: Request) -> Response:
        """Tell which of the newest values are outside their interval."""
        return await self._answer(request, self._understand_online)

    async def model_params(self, freq: str, model: str = "timegpt-1") -> dict[str, Any]:
        """Tell how far a model looks back and ahead."""
        card = self._find(model, freq).card
        return {"detail": {"input_size": card.context_length, "horizon": card.horizon}}

    async def models(self) -> dict[str, Any]:
        """List the names of the models."""
        models = [model for model in self._catalog.models() if model.may_forecast]
        return {"models": [{"name": model.model_name} for model in models]}

    async def finetuned_models(self) -> dict[str, Any]:
        """List no models: none is fine-tuned here."""
        return {"finetuned_models": []}

    async def validate_api_key(self) -> dict[str, str]:
        """Tell that the key is known; with another one the request does not come this far."""
        return {"detail": "the API key is valid"}

    async def refuse(self) -> Response:
        """Refuse what the service does not have.

        Raises:
            NotSupportedError: Always.
        """
        raise NotSupportedError(
            "this service forecasts, cross-validates and detects anomalies; it has no fine-tuning,"
            " simulation, explanations, asynchronous jobs or usage limits"
        )

    async def refuse_job(self, task: str) -> Response:
        """Refuse an asynchronous job.

        Raises:
            NotSupportedError: Always.
        """
        del task
        return await self.refuse()

    async def _answer(self, request: Request, understand: Callable[[bytes], Question]) -> Response:
        return await self._adapter.answer(request, understand, encodings=_ENCODINGS)

    def _find(self, model: str, freq: str) -> Forecaster:
        is_theirs = model.startswith("timegpt") or model == "azureai"
        name = None if is_theirs and not self._adapter.is_served(model) else model
        return self._adapter.find_model(name, freq_alias(freq))

    def _understand_forecast(self, body: bytes) -> Question:
        asked = decode_body(body, _forecast_decoder)
        model = self._check(asked)
        intervals = Intervals.within(asked.level or (), model.card, "/level/{}")
        windows = self._limited(windows_at_ends(asked.series.sizes, asked.h))
        num_future = len(asked.series.X_future or ())
        task = FlatTask(asked, model.card, windows, intervals, num_future=num_future)
        return self._question(task, model, _nothing_more)

    def _understand_cross_validation(self, body: bytes) -> Question:
        asked = decode_body(body, _cross_validation_decoder)
        step = asked.step_size or asked.h
        least = 2 if asked.full_history else asked.h + step * (asked.n_windows - 1) + 1
        model = self._check(asked, least)
        intervals = Intervals.within(asked.level or (), model.card, "/level/{}")
        sizes = asked.series.sizes
        windows = self._limited(
            windows_over_history(sizes, model.card)
            if asked.full_history
            else windows_before_ends(sizes, asked.h, num_windows=asked.n_windows, step=step)
        )
        num_future = len(asked.series.X or ()) - len(asked.hist_exog or ())
        task = FlatTask(asked, model.card, windows, intervals, num_future=num_future)
        return self._question(task, model, lambda _: task.places())

    def _understand_anomalies(self, body: bytes) -> Question:
        asked = decode_body(body, _anomalies_decoder)
        model = self._check(asked, 2)
        intervals = Intervals.within([asked.level], model.card, "/level")
        windows = self._limited(windows_over_history(asked.series.sizes, model.card))
        num_future = len(model.card.future_covariates)
        task = FlatTask(asked, model.card, windows, intervals, num_future=num_future)
        return self._question(task, model, task.judged)

    def _understand_online(self, body: bytes) -> Question:
        asked = decode_body(body, _online_decoder)
        if asked.threshold_method != "univariate":
            raise InvalidInputError("threshold_method must be univariate", "/threshold_method")
        model = self._check(asked, asked.detection_size + 1)
        intervals = Intervals.within([asked.level], model.card, "/level")
        length = min(asked.h, asked.step_size or asked.h)
        windows = self._limited(
            windows_over_newest(asked.series.sizes, asked.detection_size, length=length)
        )
        num_future = len(asked.series.X or ()) - len(asked.hist_exog or ())
        task = FlatTask(asked, model.card, windows, intervals, num_future=num_future)
        return self._question(task, model, task.judged)

    def _check(self, asked: Body, least: int = 1) -> Forecaster:
        check_wishes(asked)
        check_sizes(asked.series, least)
        return self._find(asked.model, asked.freq)

    def _limited(self, windows: Iterable[Window]) -> list[Window]:
        settings = self._adapter.settings
        found = list(itertools.islice(windows, settings.max_series + 1))
        check_series_count(len(found), settings, "/series/sizes")
        return found

    def _question(
        self, task: FlatTask, model: Forecaster, more: Callable[[Quantiles], Mapping[str, Any]]
    ) -> Question:
        prepared = self._adapter.prepare(task.request(), model, task.translate)
        refuse_wrong_series(prepared, task.translate)

        def encode(forecast: Forecast) -> bytes:
            quantiles = task.flat_quantiles(forecast)
            content = {
                "input_tokens": len(task.known.y),
                "output_tokens": quantiles.shape[1],
                "finetune_tokens": 0,
                "mean": task.intervals.median(quantiles),
                "intervals": task.intervals.bounds(quantiles),
                "weights_x": None,
                "feature_contributions": None,
            }
            return orjson.dumps(content | dict(more(quantiles)), option=_OPTIONS)

        return Question(model, prepared, encode)


def _nothing_more(_: Quantiles) -> dict[str, Any]:
    return {}
