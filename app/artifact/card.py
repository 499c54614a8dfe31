"""Everything the service must know about a forecaster."""

from typing import Any, Literal

from pydantic import Field, field_validator

from app.artifact.specs import Content, StateSpec, TensorSpec
from app.calendar import Frequency
from app.calendar_features import CALENDAR_FEATURES, CalendarFeatures
from app.holiday_calendar import HolidayCalendar


class Accuracy(Content):
    """Measured errors on a test part, beside those of the seasonal naive forecast."""

    data_set: str
    num_series: int
    mase: float
    smape: float
    weighted_quantile_loss: float
    coverage_80: float
    seasonal_naive_mase: float
    seasonal_naive_smape: float
    seasonal_naive_weighted_quantile_loss: float


class Training(Content):
    """Where the weights come from."""

    data_digest: str
    num_series: int
    num_observations: int
    seed: int
    config: dict[str, Any]


class Card(Content):
    """Everything the service must know about a forecaster."""

    format_version: Literal[1] = 1
    task: Literal["forecast"] = "forecast"
    description: str = ""
    cell: Literal["lstm", "gru"]
    num_layers: int
    hidden_size: int
    num_members: int = 1
    """Networks in the file, each of ``num_layers``; the forecast is their mean."""
    transform: Literal["log", "identity", "both"] | None = None
    """Axis that the networks work on; None where the file is older than this field."""
    is_nonnegative: bool = False
    """Whether no forecast is ever negative."""
    freq: str | None
    """Frequency alias the model was trained on; None where time was a plain integer step."""
    season: int
    """Steps in one season, 1 where there is none."""
    horizon: int
    """Most steps ahead."""
    context_length: int
    """Most recent steps that the service gives the model."""
    quantile_levels: tuple[float, ...]
    past_covariates: tuple[str, ...] = ()
    future_covariates: tuple[str, ...] = ()
    static_covariates: tuple[str, ...] = ()
    """Numbers first, then those of ``static_categories``."""
    static_categories: dict[str, tuple[str, ...]] = Field({})
    """Known texts of each static covariate that is one; in its tensor they count from 1, 0 is any
    other."""
    calendar_features: tuple[str, ...] = ()
    """Columns of the tensor ``future_covariates`` after those that a caller names."""
    holidays: HolidayCalendar | None = None
    inputs: tuple[TensorSpec, ...]
    """Without the states."""
    outputs: tuple[TensorSpec, ...]
    """Without the states."""
    states: tuple[StateSpec, ...]
    training: Training
    accuracy: tuple[Accuracy, ...] = ()
    made_with: dict[str, str]
    """Versions of the libraries that made the file."""

    @field_validator("calendar_features")
    @classmethod
    def _check_features(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in CALENDAR_FEATURES:
                raise ValueError(f"this version of gatecast knows no feature {name}")
        return names

    @property
    def calendar(self) -> CalendarFeatures | None:
        """What the service computes from time stamps; None where the model needs none."""
        if not self.calendar_features or self.freq is None:
            return None
        return CalendarFeatures(self.calendar_features, Frequency.parse(self.freq), self.holidays)
