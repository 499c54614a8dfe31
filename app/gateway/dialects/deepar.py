"""DeepAR's JSON, as SageMaker's built-in algorithm documents it: ``instances`` in, forecasts out.

``mean`` is the median. ``samples`` are paths of equal rank: path i keeps the same quantile at every
step, so their spread at a step is the model's, between its lowest and highest level.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np
import orjson
from msgspec import Meta, Struct
from numpy.typing import NDArray

from app.artifact.card import Card
from app.errors import InvalidInputError
from app.gateway.catalog import Forecaster
from app.gateway.dialects.adapter import (
    Adapter,
    Question,
    covariates_by_order,
    refuse_wrong_series,
)
from app.gateway.dialects.vocabulary import Vocabulary
from app.gateway.forecast_schemas import ForecastRequest, Series
from app.gateway.service import Forecast

_WORDS = Vocabulary(
    {
        "series": "instances",
        "quantile_levels": "configuration/quantiles",
        "future_covariates": "dynamic_feat",
        "static_covariates": "cat",
    }
)
_MAX_SAMPLES = 1000
_MAX_SAMPLED_VALUES = 1_000_000
_DIGITS = 10
_MAX_CODE = 2**53
"""Whole numbers up to here are floats without loss."""
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE


class DeepArInstance(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """One series; a missing value is null or "NaN"."""

    start: str
    target: Annotated[
        list[float | str | None],
        Meta(description='Numbers, oldest first; null or "NaN" where missing.'),
    ]
    cat: Annotated[
        list[Annotated[int, Meta(ge=-_MAX_CODE, le=_MAX_CODE)]] | None,
        Meta(description="The model's static covariates, in their order."),
    ] = None
    dynamic_feat: Annotated[
        list[list[float]] | None,
        Meta(description="The model's future covariates, in their order, over the horizon too."),
    ] = None


class DeepArConfiguration(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """What to answer."""

    num_samples: Annotated[int, Meta(ge=1, le=_MAX_SAMPLES)] = 100
    output_types: tuple[Literal["mean", "quantiles", "samples"], ...] = ("mean", "quantiles")
    quantiles: Annotated[tuple[str, ...], Meta(max_length=99)] = (
        "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9",
    )  # fmt: skip


class _Selection(NamedTuple):
    """The levels to forecast, and where among them each quantile and each sample is."""

    levels: list[float]
    quantiles: Mapping[str, int]
    samples: NDArray[np.intp]


_configuration_decoder = msgspec.json.Decoder(DeepArConfiguration)


def decode_configuration(text: str) -> DeepArConfiguration:
    """Read ``DEEPAR_INFERENCE_CONFIG``; empty means the defaults.

    Raises:
        InvalidInputError: It is not what DeepAR documents.
    """
    try:
        return _configuration_decoder.decode(text or "{}")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"deepar_inference_config: {error}") from error


def understand_instances(
    adapter: Adapter,
    instances: Sequence[DeepArInstance],
    configuration: DeepArConfiguration,
    *,
    as_lines: bool,
) -> Question:
    """Turn decoded instances into a question.

    Raises:
        GatecastError: Something in them is wrong, or it is not clear which model is meant.
    """
    model = adapter.find_model(None, None)
    selection = _select(configuration, model.card)
    request = ForecastRequest(
        series=[_to_series(one, place, model) for place, one in enumerate(instances)],
        quantile_levels=selection.levels,
    )
    prepared = adapter.prepare(request, model, _WORDS.translate)
    refuse_wrong_series(prepared, _WORDS.translate)
    if "samples" in configuration.output_types:
        _check_samples(len(instances) * configuration.num_samples * model.card.horizon)

    def encode(forecast: Forecast) -> bytes:
        predictions = [
            _prediction(forecast.series[place].quantiles, configuration, selection)
            for place in range(len(instances))
        ]
        if as_lines:
            return b"".join(orjson.dumps(one, option=_OPTIONS) for one in predictions)
        return orjson.dumps({"predictions": predictions}, option=_OPTIONS)

    return Question(model, prepared, encode)


def _to_series(one: DeepArInstance, place: int, model: Forecaster) -> Series:
    card, pointer = model.card, f"/instances/{place}"
    future: dict[str, list[float | None]] = covariates_by_order(
        card.future_covariates,
        [list(column) for column in one.dynamic_feat or []],
        field="dynamic_feat",
        pointer=pointer,
    )
    codes = covariates_by_order(
        card.static_covariates,
        [[float(value)] for value in one.cat or []],
        field="cat",
        pointer=pointer,
    )
    static: dict[str, float | str | None] = {
        name: _category(values[0], card.static_categories.get(name))
        for name, values in codes.items()
    }
    return Series(
        target=_numbers(one.target, f"{pointer}/target"),
        start=one.start,
        future_covariates=future or None,
        static_covariates=static or None,
    )


def _category(code: float | None, known: Sequence[str] | None) -> float | str | None:
    """Return the category that DeepAR counts from 0; an unknown one where there is none."""
    if known is None or code is None:
        return code
    return known[int(code)] if 0 <= code < len(known) else None


def _numbers(values: Sequence[float | str | None], pointer: str) -> list[float | None]:
    numbers: list[float | None] = []
    for index, value in enumerate(values):
        if not isinstance(value, str):
            numbers.append(value)
        elif value == "NaN":
            numbers.append(None)
        else:
            raise InvalidInputError(
                'target: expected number, null or "NaN", got another string', f"{pointer}/{index}"
            )
    return numbers


def _select(configuration: DeepArConfiguration, card: Card) -> _Selection:
    lowest, highest = card.quantile_levels[0], card.quantile_levels[-1]
    asked = {text: _level(text, place) for place, text in enumerate(configuration.quantiles)}
    for place, level in enumerate(asked.values()):
        if "quantiles" in configuration.output_types and not lowest <= level <= highest:
            raise InvalidInputError(
                f"quantiles must be within {lowest} and {highest} for this model",
                f"/configuration/quantiles/{place}",
            )
    ranks = (np.arange(configuration.num_samples) + 0.5) / configuration.num_samples
    ranks = (
        np.clip(ranks, lowest, highest) if "samples" in configuration.output_types else ranks[:0]
    )
    wanted = asked.values() if "quantiles" in configuration.output_types else ()
    levels = sorted({0.5, *wanted, *ranks.tolist()})
    return _Selection(
        levels,
        {text: levels.index(level) for text, level in asked.items() if level in levels},
        np.searchsorted(levels, ranks),
    )


def _level(text: str, place: int) -> float:
    pointer = f"/configuration/quantiles/{place}"
    try:
        level = float(text)
    except ValueError as error:
        raise InvalidInputError(
            'quantiles must be numbers in strings, as "0.9"', pointer
        ) from error
    if not 0 < level < 1:
        raise InvalidInputError("quantiles must be between 0 and 1", pointer)
    return round(level, _DIGITS)


def _check_samples(count: int) -> None:
    if count > _MAX_SAMPLED_VALUES:
        raise InvalidInputError(
            f"samples of all instances may have at most {_MAX_SAMPLED_VALUES} values",
            "/configuration/num_samples",
        )


def _prediction(
    quantiles: NDArray[np.float32], configuration: DeepArConfiguration, selection: _Selection
) -> dict[str, Any]:
    """Write one forecast, from ``(num_levels, horizon)``."""
    content: dict[str, Any] = {}
    if "quantiles" in configuration.output_types:
        content["quantiles"] = {
            text: quantiles[index] for text, index in selection.quantiles.items()
        }
    if "samples" in configuration.output_types:
        content["samples"] = quantiles[selection.samples]
    if "mean" in configuration.output_types:
        content["mean"] = quantiles[selection.levels.index(0.5)]
    return content
