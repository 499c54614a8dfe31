"""Bodies of TimeGPT's API, as version 0.9 of the ``nixtla`` SDK sends them."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from app.gateway.forecast_schemas import MAX_QUANTILE_LEVELS

Numbers = Annotated[list[float | None], Meta(description="Numbers; null where missing.")]
Count = Annotated[int, Meta(ge=1)]
Level = Annotated[float, Meta(ge=0, lt=100, description="Percent inside the interval.")]


class TimeGptSeries(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """All series one after another."""

    y: Annotated[Numbers, Meta(min_length=1)]
    sizes: Annotated[list[Count], Meta(min_length=1, description="How long each series is.")]
    X: Annotated[
        list[Numbers] | None,
        Meta(description="Covariates, each as long as `y`: the future ones, then the past ones."),
    ] = None
    X_future: Annotated[
        list[Numbers] | None, Meta(description="Future covariates, `h` values for each series.")
    ] = None
    categorical_exog: list[int] | None = None
    start_datetime: list[str] | None = None


class _Common(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    series: TimeGptSeries
    freq: Annotated[str, Meta(description="Alias of pandas or polars, such as MS, ME, D or 15min.")]
    model: Annotated[
        str, Meta(description="A model of this service; timegpt-... chooses one by `freq`.")
    ] = "timegpt-1"
    clean_ex_first: bool = True
    multivariate: bool = False
    finetune_steps: Annotated[int, Meta(ge=0)] = 0
    finetune_depth: int = 1
    finetune_loss: str = "default"
    finetuned_model_id: str | None = None
    feature_contributions: bool = False
    feature_contributions_type: str | None = None
    model_parameters: dict[str, Any] | None = None


_Levels = Annotated[list[Level], Meta(max_length=MAX_QUANTILE_LEVELS // 2)]


class TimeGptForecast(_Common, frozen=True):
    """``POST /v2/forecast``."""

    h: Count
    level: _Levels | None = None


class TimeGptCrossValidation(_Common, frozen=True):
    """``POST /v2/cross_validation``; ``full_history`` asks for the fitted values."""

    h: Count
    n_windows: Count = 1
    step_size: Count | None = None
    level: _Levels | None = None
    hist_exog: list[int] | None = None
    refit: bool = True
    full_history: bool = False


class TimeGptAnomalies(_Common, frozen=True):
    """``POST /v2/anomaly_detection``."""

    level: Level = 99


class TimeGptOnlineAnomalies(_Common, frozen=True):
    """``POST /v2/online_anomaly_detection``."""

    h: Count
    detection_size: Count
    threshold_method: str = "univariate"
    step_size: Count | None = None
    level: Level = 99
    hist_exog: list[int] | None = None
    refit: bool = True
