"""Bodies of streams: the one definition that decodes and documents them."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from app.gateway.forecast_schemas import (
    MAX_QUANTILE_LEVELS,
    Note,
    QuantileLevel,
    Values,
    WholeNumber,
)

Levels = Annotated[
    Annotated[list[QuantileLevel], Meta(min_length=1, max_length=MAX_QUANTILE_LEVELS)] | None,
    Meta(description="As in a forecast request. Default: the model's."),
]
Step = Annotated[float, Meta(ge=0, le=10**12, multiple_of=1)]


class StreamHistory(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The values that a stream begins with."""

    target: Annotated[
        list[float | None],
        Meta(min_length=1, description="Observed values, oldest first; null where missing."),
    ]
    start: Annotated[
        str | None,
        Meta(
            description="Time stamp of the first value, ISO 8601; then forecasts have time stamps."
        ),
    ] = None
    freq: Annotated[str | None, Meta(description="Spacing of the values, as in a forecast.")] = None
    past_covariates: Annotated[
        dict[str, Values] | None, Meta(description="By name, as many values as `target`.")
    ] = None
    future_covariates: Annotated[
        dict[str, Values] | None,
        Meta(description="By name, as many values as `target` and the model's horizon together."),
    ] = None
    static_covariates: Annotated[
        dict[str, float | str | None] | None,
        Meta(description="By name, as in a forecast request; they stay those of the stream."),
    ] = None


class Observations(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """New values of a stream, and what to forecast after them."""

    step: Annotated[
        Step,
        Meta(description="Number of values in the stream before these: makes retries safe."),
    ]
    values: Annotated[
        list[float | None],
        Meta(min_length=1, description="Observed values, oldest first; null where missing."),
    ]
    horizon: Annotated[
        WholeNumber | None, Meta(description="Steps ahead. Default and most: the model's.")
    ] = None
    quantile_levels: Levels = None
    past_covariates: Annotated[
        dict[str, Values] | None, Meta(description="By name, as many values as `values`.")
    ] = None
    future_covariates: Annotated[
        dict[str, Values] | None,
        Meta(
            description="By name, as many values as `values` and `horizon` together; they take the"
            " place of what was known ahead before."
        ),
    ] = None


class StreamDescription(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One stream."""

    stream_id: str
    model_name: str
    step: Annotated[int, Meta(description="Values so far: the step of the next observation.")]
    num_kept: Annotated[int, Meta(description="The newest of them, which forecasts are made from.")]
    updated_at: Annotated[str, Meta(description="When it last changed, ISO 8601.")]
    expires_at: Annotated[str, Meta(description="When it is lost if nothing is added.")]
    start: str | UnsetType = UNSET
    freq: str | UnsetType = UNSET


class StreamList(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Streams of one model and one key, by their ids."""

    streams: list[StreamDescription]
    next_after: Annotated[
        str | UnsetType, Meta(description="Ask for `after` this id for more; not there at the end.")
    ] = UNSET


class StreamForecast(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Forecast of the steps after the newest value of a stream."""

    stream_id: str
    model_name: str
    model_version: int
    step: Annotated[int, Meta(description="Values that the forecast knows of.")]
    horizon: int
    quantile_levels: list[float]
    quantiles: Annotated[
        dict[str, list[float]], Meta(description="By level: one value per step ahead.")
    ]
    timestamps: list[str] | UnsetType = UNSET
    notes: Annotated[
        list[Note] | UnsetType, Meta(description="As in the answer of a forecast request.")
    ] = UNSET
