"""Bodies of the native forecast API: the one definition that decodes and documents them."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

MAX_QUANTILE_LEVELS = 99
MAX_ITEM_ID_LENGTH = 256

Values = Annotated[
    list[float | None], Meta(description="Numbers, oldest first; null where missing.")
]
QuantileLevel = Annotated[float, Meta(gt=0, lt=1)]
WholeNumber = Annotated[float, Meta(ge=1, multiple_of=1)]
"""Any JSON number without a fraction counts as an integer: 12.0 is 12."""

Note = Literal["short_history", "many_missing", "extrapolated_horizon"]


class Series(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """One time series to be forecast."""

    target: Annotated[
        list[float | None],
        Meta(description="Observed values, oldest first; null where missing. The last ones count."),
    ]
    item_id: Annotated[
        Annotated[str, Meta(max_length=MAX_ITEM_ID_LENGTH)] | None,
        Meta(description="Name of the series; comes back in the answer."),
    ] = None
    start: Annotated[
        str | None,
        Meta(
            description="Time stamp of the first value, ISO 8601; then forecasts have time stamps. "
            "A model with calendar features needs it."
        ),
    ] = None
    past_covariates: Annotated[
        dict[str, Values] | None,
        Meta(description="By name, as many values as `target`."),
    ] = None
    future_covariates: Annotated[
        dict[str, Values] | None,
        Meta(description="By name, as many values as `target` and `horizon` together."),
    ] = None
    static_covariates: Annotated[
        dict[str, float | str | None] | None,
        Meta(description="By name, one number, or one text where the model knows categories."),
    ] = None


class ForecastRequest(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Series to be forecast, and how far and at which quantile levels."""

    series: Annotated[list[Series], Meta(min_length=1, description="Answered in this order.")]
    freq: Annotated[
        str | None,
        Meta(
            description="Spacing of the values: a count and one of s, min, h, D, B, W, M, Q, Y. "
            "Default: the model's."
        ),
    ] = None
    horizon: Annotated[
        WholeNumber | None,
        Meta(
            description="Steps ahead. Default: the model's; up to `max_horizon_factor` times that, "
            "of which steps beyond the model's horizon are extrapolated."
        ),
    ] = None
    quantile_levels: Annotated[
        Annotated[list[QuantileLevel], Meta(min_length=1, max_length=MAX_QUANTILE_LEVELS)] | None,
        Meta(
            description="Ascending, within the model's range; what lies between the model's own "
            "levels is interpolated. Default: the model's."
        ),
    ] = None


class SeriesError(Struct, kw_only=True, frozen=True):
    """Why one series has no forecast, or one sequence no answer."""

    type: str
    title: str
    status: int
    detail: str
    pointer: Annotated[str, Meta(description="JSON pointer into the request body.")]


class SeriesForecast(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Forecast of one series; either `quantiles` or `error` is there."""

    item_id: str | UnsetType = UNSET
    timestamps: Annotated[
        list[str] | UnsetType,
        Meta(description="One per step ahead, ISO 8601; where the series has a `start`."),
    ] = UNSET
    quantiles: Annotated[
        dict[str, list[float]] | UnsetType,
        Meta(description="By level, such as `0.9`: one value per step ahead."),
    ] = UNSET
    notes: Annotated[
        list[Note] | UnsetType,
        Meta(
            description="What a reader should know, where there is something: less than two seasons"
            " of values, more than a quarter of the values missing, steps beyond the horizon that"
            " the model was trained for."
        ),
    ] = UNSET
    error: SeriesError | UnsetType = UNSET


class ForecastResponse(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Forecasts in the order of the request."""

    model_name: str
    model_version: int
    horizon: int
    quantile_levels: list[float]
    forecasts: list[SeriesForecast]


class ProblemError(Struct, kw_only=True, frozen=True):
    """One thing that is wrong, and where."""

    detail: str
    pointer: Annotated[
        str | UnsetType, Meta(description="JSON pointer (RFC 6901) into the request body.")
    ] = UNSET
    parameter: Annotated[
        str | UnsetType, Meta(description="Name of a path parameter or header.")
    ] = UNSET


class Problem(Struct, kw_only=True, frozen=True):
    """Problem details, RFC 9457."""

    type: Annotated[str, Meta(description="Kind of problem, or about:blank.")]
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: list[ProblemError] | UnsetType = UNSET
