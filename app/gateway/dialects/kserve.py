"""KServe: ``/v1/models/{model_name}:predict`` and ``/v1/timeseries/forecast``."""

import secrets
import time
from typing import Annotated, Any, Literal

import msgspec
import orjson
from fastapi import Request
from msgspec import Meta, Struct
from starlette.responses import Response

from app.errors import InvalidInputError
from app.gateway.catalog import Catalog
from app.gateway.decoding import decode_body
from app.gateway.dialects.adapter import Adapter, Question, with_median
from app.gateway.dialects.instances import understand_instances
from app.gateway.dialects.vocabulary import Vocabulary
from app.gateway.forecast_schemas import (
    MAX_QUANTILE_LEVELS,
    ForecastRequest,
    QuantileLevel,
    Series,
    WholeNumber,
)
from app.gateway.parameters import ModelName
from app.gateway.problems import problem_kind
from app.gateway.service import Forecast

_FREQUENCIES = {
    "second": "s", "S": "s",
    "minute": "min", "T": "min",
    "hour": "h", "H": "h",
    "day": "D", "D": "D",
    "week": "W", "W": "W",
    "month": "M", "M": "M",
    "quarter": "Q", "Q": "Q",
    "year": "Y", "Y": "Y",
}  # fmt: skip
_WORDS = Vocabulary(
    {
        "series": "inputs",
        "target": "series",
        "start": "start_timestamp",
        "freq": "frequency",
        "horizon": "options/horizon",
        "quantile_levels": "options/quantiles",
    }
)


class TimeSeriesInput(Struct, kw_only=True, frozen=True):
    """One series; only univariate ones are forecast."""

    type: Literal["univariate_time_series", "multivariate_time_series"]
    name: str
    series: Annotated[
        list[float | list[float | None] | None],
        Meta(description="Numbers, oldest first; null where missing."),
    ]
    frequency: Annotated[str, Meta(description="A word such as `month`, or its letter.")]
    start_timestamp: str | None = None


class TimeSeriesOptions(Struct, kw_only=True, frozen=True):
    """How far, and at which quantile levels."""

    horizon: WholeNumber
    quantiles: (
        Annotated[list[QuantileLevel], Meta(min_length=1, max_length=MAX_QUANTILE_LEVELS)] | None
    ) = None


class TimeSeriesRequest(Struct, kw_only=True, frozen=True):
    """A request of KServe's forecast API; unknown fields are ignored, as its definition says."""

    model: str
    inputs: Annotated[list[TimeSeriesInput], Meta(min_length=1)]
    options: TimeSeriesOptions


_decoder = msgspec.json.Decoder(TimeSeriesRequest)


class KServeEndpoints:
    """What KServe's clients call beside the Open Inference Protocol."""

    def __init__(self, adapter: Adapter, catalog: Catalog) -> None:
        self._adapter = adapter
        self._catalog = catalog

    async def predict(self, request: Request, model_name: ModelName) -> Response:
        """Forecast the series in `instances`."""
        self._adapter.find_model(model_name, None)  # before the body is read
        return await self._adapter.answer(
            request, lambda body: understand_instances(self._adapter, body, model_name)
        )

    async def forecast(self, request: Request) -> Response:
        """Forecast the series in `inputs`."""
        return await self._adapter.answer(request, self._understand)

    async def models(self) -> list[str]:
        """List the names of the models."""
        return [model.model_name for model in self._catalog.models() if model.may_forecast]

    def _understand(self, body: bytes) -> Question:
        asked = decode_body(body, _decoder)
        model = self._adapter.find_model(asked.model, None)
        levels = asked.options.quantiles
        request = ForecastRequest(
            series=[
                Series(target=_univariate(one, place), start=one.start_timestamp)
                for place, one in enumerate(asked.inputs)
            ],
            freq=_common_frequency(asked),
            horizon=asked.options.horizon,
            quantile_levels=None if levels is None else with_median(_ascending(levels)),
        )
        prepared = self._adapter.prepare(request, model, _WORDS.translate)
        return Question(model, prepared, lambda forecast: _encode(forecast, asked))


def _univariate(one: TimeSeriesInput, place: int) -> list[float | None]:
    values: list[float | None] = [value for value in one.series if not isinstance(value, list)]
    if one.type != "univariate_time_series" or len(values) != len(one.series):
        raise InvalidInputError(
            "series: only univariate series are forecast; send each variable as a series",
            f"/inputs/{place}/series",
        )
    return values


def _common_frequency(asked: TimeSeriesRequest) -> str:
    for place, one in enumerate(asked.inputs):
        pointer = f"/inputs/{place}/frequency"
        if one.frequency not in _FREQUENCIES:
            raise InvalidInputError(f"frequency must be one of {', '.join(_FREQUENCIES)}", pointer)
        if _FREQUENCIES[one.frequency] != _FREQUENCIES[asked.inputs[0].frequency]:
            raise InvalidInputError("all inputs must have the same frequency", pointer)
    return _FREQUENCIES[asked.inputs[0].frequency]


def _ascending(levels: list[float]) -> list[float]:
    if len(set(levels)) != len(levels):
        raise InvalidInputError("quantiles must be given once each", "/options/quantiles")
    return sorted(levels)


def _encode(forecast: Forecast, asked: TimeSeriesRequest) -> bytes:
    outputs = [_output(forecast, asked, position) for position in range(len(asked.inputs))]
    content = {
        "id": f"forecast-{secrets.token_hex(12)}",
        "created_at": int(time.time()),
        "status": "partial" if forecast.refusals else "completed",
        "error": None,
        "model": asked.model,
        "outputs": outputs,
        "usage": None,
    }
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def _output(forecast: Forecast, asked: TimeSeriesRequest, position: int) -> dict[str, Any]:
    given = asked.inputs[position]
    output: dict[str, Any] = {"type": "time_series_forecast", "id": f"output-{position}"}
    if refusal := forecast.refusals.get(position):
        error = _WORDS.translate(refusal)
        found = {
            "code": "400",
            "message": str(error),
            "param": error.pointer.strip("/").replace("/", "."),
            "type": problem_kind(error).type,
        }
        return output | {"status": "error", "content": [], "error": found}
    one = forecast.series[position]
    median = one.quantiles[forecast.quantile_levels.index(0.5)]
    levels = asked.options.quantiles
    content = {
        "type": given.type,
        "name": given.name,
        "mean_forecast": median,
        "frequency": given.frequency,
        "start_timestamp": one.timestamps[0] if one.timestamps else "",
        "quantiles": None
        if levels is None
        else {
            repr(level): one.quantiles[forecast.quantile_levels.index(level)] for level in levels
        },
    }
    return output | {"status": "completed", "content": [content], "error": None}
