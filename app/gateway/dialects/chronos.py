"""The JSON of a Chronos endpoint, as SageMaker JumpStart deploys it. ``mean`` is the median."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import orjson
from msgspec import Meta, Struct

from app.calendar import parse_stamp
from app.errors import InvalidInputError
from app.gateway.dialects.adapter import Adapter, Question, refuse_wrong_series, with_median
from app.gateway.dialects.vocabulary import Vocabulary
from app.gateway.forecast_schemas import (
    MAX_ITEM_ID_LENGTH,
    MAX_QUANTILE_LEVELS,
    ForecastRequest,
    QuantileLevel,
    Series,
    Values,
    WholeNumber,
)
from app.gateway.service import Forecast, SeriesQuantiles

_WORDS = Vocabulary(
    {
        "series": "inputs",
        "horizon": "parameters/prediction_length",
        "freq": "parameters/freq",
        "quantile_levels": "parameters/quantile_levels",
    }
)


class ChronosInput(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """One series; a covariate that is known ahead is in both mappings."""

    target: Annotated[
        list[float | list[float | None] | None],
        Meta(description="Numbers, oldest first; null where missing."),
    ]
    item_id: Annotated[str, Meta(max_length=MAX_ITEM_ID_LENGTH)] | None = None
    start: str | None = None
    past_covariates: dict[str, Values] | None = None
    future_covariates: dict[str, Values] | None = None


class ChronosParameters(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """How far and at which levels; ``batch_size`` is of no effect."""

    prediction_length: WholeNumber = 1
    quantile_levels: Annotated[
        tuple[QuantileLevel, ...], Meta(min_length=1, max_length=MAX_QUANTILE_LEVELS)
    ] = (0.1, 0.5, 0.9)
    freq: str | None = None
    batch_size: Annotated[int, Meta(ge=1)] | None = None
    cross_learning: bool = False
    predict_batches_jointly: bool = False


def understand_inputs(
    adapter: Adapter, inputs: Sequence[ChronosInput], parameters: ChronosParameters
) -> Question:
    """Turn decoded inputs into a question.

    Raises:
        GatecastError: Something in them is wrong, or it is not clear which model is meant.
    """
    if parameters.cross_learning or parameters.predict_batches_jointly:
        raise InvalidInputError(
            "series are forecast each for itself; cross_learning must be false",
            "/parameters/cross_learning",
        )
    _check_starts(inputs, parameters)
    model = adapter.find_model(None, parameters.freq)
    levels = sorted(set(parameters.quantile_levels))
    request = ForecastRequest(
        series=[
            _to_series(one, place, model.card.past_covariates) for place, one in enumerate(inputs)
        ],
        freq=parameters.freq,
        horizon=parameters.prediction_length,
        quantile_levels=with_median(levels),
    )
    prepared = adapter.prepare(request, model, _WORDS.translate)
    refuse_wrong_series(prepared, _WORDS.translate)

    def encode(forecast: Forecast) -> bytes:
        predictions = [
            _prediction(forecast.series[place], forecast.quantile_levels, one, levels=levels)
            for place, one in enumerate(inputs)
        ]
        return orjson.dumps(
            {"predictions": predictions},
            option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE,
        )

    return Question(model, prepared, encode)


def _check_starts(inputs: Sequence[ChronosInput], parameters: ChronosParameters) -> None:
    for place, one in enumerate(inputs):
        if (one.start is None) != (parameters.freq is None):
            raise InvalidInputError(
                "start and parameters.freq go together: give both or neither",
                f"/inputs/{place}/start",
            )


def _to_series(one: ChronosInput, place: int, past_names: Sequence[str]) -> Series:
    target: list[float | None] = [value for value in one.target if not isinstance(value, list)]
    if len(target) != len(one.target):
        raise InvalidInputError(
            "target: only univariate series are forecast; send each variable as an input",
            f"/inputs/{place}/target",
        )
    given, ahead = one.past_covariates or {}, one.future_covariates or {}
    future = {
        name: _joined(given, name, values, f"/inputs/{place}") for name, values in ahead.items()
    }
    past = {name: values for name, values in given.items() if name not in ahead}
    past |= {name: given[name] for name in past_names if name in given}
    return Series(
        target=target,
        item_id=one.item_id,
        start=one.start,
        past_covariates=past or None,
        future_covariates=future or None,
    )


def _joined(
    past: Mapping[str, list[float | None]], name: str, ahead: list[float | None], pointer: str
) -> list[float | None]:
    if name not in past:
        raise InvalidInputError(
            "a covariate of future_covariates must be in past_covariates too",
            f"{pointer}/past_covariates",
        )
    return [*past[name], *ahead]


def _prediction(
    one: SeriesQuantiles, known: Sequence[float], given: ChronosInput, *, levels: Sequence[float]
) -> dict[str, Any]:
    rows = one.quantiles
    content: dict[str, Any] = {"mean": rows[known.index(0.5)]}
    content |= {repr(level): rows[known.index(level)] for level in levels}
    if given.item_id is not None:
        content["item_id"] = given.item_id
    if one.timestamps:
        content["start"] = parse_stamp(one.timestamps[0]).isoformat()
    return content
