"""``instances`` in, ``predictions`` out: the form that Vertex AI and KServe v1 share.

Both leave open what an instance is. Here it is a series of the native API, or only its numbers; a
prediction is what the native API answers for a series, its error included. ``parameters`` are the
other fields of a native request.
"""

from typing import Annotated

import msgspec
import orjson
from msgspec import Meta, Struct

from app.gateway.decoding import decode_body
from app.gateway.dialects.adapter import Adapter, Question
from app.gateway.dialects.vocabulary import Vocabulary
from app.gateway.forecast import encode_forecast_series
from app.gateway.forecast_schemas import (
    MAX_QUANTILE_LEVELS,
    ForecastRequest,
    QuantileLevel,
    Series,
    SeriesForecast,
    Values,
    WholeNumber,
)
from app.gateway.service import Forecast

_WORDS = Vocabulary(
    {
        "series": "instances",
        "horizon": "parameters/horizon",
        "freq": "parameters/freq",
        "quantile_levels": "parameters/quantile_levels",
    }
)


class InstancesParameters(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The fields of a native request beside its series, and the model."""

    horizon: WholeNumber | None = None
    freq: str | None = None
    quantile_levels: (
        Annotated[list[QuantileLevel], Meta(min_length=1, max_length=MAX_QUANTILE_LEVELS)] | None
    ) = None
    model_name: Annotated[
        str | None, Meta(description="Where the path names none and several are served.")
    ] = None


class InstancesRequest(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Series to be forecast; an instance is a series or only its values."""

    instances: Annotated[list[Series | Values], Meta(min_length=1)]
    parameters: InstancesParameters | None = None


class InstancesResponse(Struct, kw_only=True, frozen=True):
    """One prediction for each instance, in their order."""

    predictions: list[SeriesForecast]
    model_name: str
    model_version: str


_decoder = msgspec.json.Decoder(InstancesRequest)


def understand_instances(adapter: Adapter, body: bytes, model_name: str | None) -> Question:
    """Turn a body into a question; ``model_name`` is that of the path, if it has one.

    Raises:
        GatecastError: The body can not be read, is wrong, or means no model.
    """
    asked = decode_body(body, _decoder)
    parameters = asked.parameters or InstancesParameters()
    model = adapter.find_model(model_name or parameters.model_name, parameters.freq)
    request = ForecastRequest(
        series=[one if isinstance(one, Series) else Series(target=one) for one in asked.instances],
        freq=parameters.freq,
        horizon=parameters.horizon,
        quantile_levels=parameters.quantile_levels,
    )
    return Question(model, adapter.prepare(request, model, _WORDS.translate), _encode)


def _encode(forecast: Forecast) -> bytes:
    content = {
        "predictions": encode_forecast_series(forecast, translate=_WORDS.translate),
        "model_name": forecast.model.model_name,
        "model_version": str(forecast.model.model_version),
    }
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)
