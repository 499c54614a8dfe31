"""Answers of the service as frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class SeriesError:
    """Why one series has no forecast, or one sequence no answer."""

    type: str
    detail: str
    pointer: str

    @classmethod
    def from_json(cls, content: Mapping[str, Any] | None) -> Self | None:
        """Read an ``error``, where there is one."""
        return cls(content["type"], content["detail"], content["pointer"]) if content else None


@dataclass(frozen=True, slots=True)
class SeriesForecast:
    """Forecast of one series, or its error; ``quantiles`` has one list per level.

    ``notes`` say what a reader should know, such as ``short_history``.
    """

    item_id: str | None
    timestamps: tuple[str, ...] | None
    quantiles: Mapping[float, list[float]]
    error: SeriesError | None
    notes: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read one entry of ``forecasts``."""
        stamps = content.get("timestamps")
        return cls(
            item_id=content.get("item_id"),
            timestamps=None if stamps is None else tuple(stamps),
            quantiles={float(k): list(v) for k, v in content.get("quantiles", {}).items()},
            error=SeriesError.from_json(content.get("error")),
            notes=tuple(content.get("notes", ())),
        )


@dataclass(frozen=True, slots=True)
class Forecast:
    """Forecasts in the order of the request."""

    model_name: str
    model_version: int
    horizon: int
    quantile_levels: tuple[float, ...]
    forecasts: tuple[SeriesForecast, ...]

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read the answer to a forecast request."""
        return cls(
            model_name=content["model_name"],
            model_version=content["model_version"],
            horizon=content["horizon"],
            quantile_levels=tuple(content["quantile_levels"]),
            forecasts=tuple(SeriesForecast.from_json(one) for one in content["forecasts"]),
        )
