"""Requests: series as Python holds them, bodies as the service reads them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Values = Sequence[float | None]
Covariates = Mapping[str, Values]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One series to be forecast; a missing value is None or NaN.

    Attributes:
        target: Observed values, oldest first.
        item_id: Name; comes back.
        start: ISO 8601 stamp of the first value; then stamps come back.
        past_covariates: By name, as many values as ``target``.
        future_covariates: By name, as many values as ``target`` and horizon together.
        static_covariates: By name, one number, or one text where the model knows categories.
    """

    target: Values
    item_id: str | None = None
    start: str | None = None
    past_covariates: Covariates | None = None
    future_covariates: Covariates | None = None
    static_covariates: Mapping[str, float | str | None] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the series as the service reads it."""
        content: dict[str, Any] = {"target": plain(self.target)}
        for name in ("item_id", "start"):
            if (value := getattr(self, name)) is not None:
                content[name] = value
        for name in ("past_covariates", "future_covariates"):
            covariates: Covariates | None = getattr(self, name)
            if covariates:
                content[name] = {key: plain(values) for key, values in covariates.items()}
        if self.static_covariates:
            content["static_covariates"] = {
                name: value if isinstance(value, str) else plain([value])[0]
                for name, value in self.static_covariates.items()
            }
        return content


def forecast_body(
    series: Sequence[Series | Values],
    *,
    horizon: int | None = None,
    quantile_levels: Sequence[float] | None = None,
    freq: str | None = None,
) -> dict[str, Any]:
    """Return the body of a forecast request; plain numbers are a series too."""
    given = [one if isinstance(one, Series) else Series(target=one) for one in series]
    fields = {"horizon": horizon, "quantile_levels": quantile_levels, "freq": freq}
    body: dict[str, Any] = {"series": [one.to_json() for one in given]}
    return body | {name: value for name, value in fields.items() if value is not None}


def forecast_path(model_name: str, model_version: int | None) -> str:
    """Return where a model's forecasts are."""
    return f"{model_path(model_name, model_version)}/forecast"


def model_path(model_name: str, model_version: int | None) -> str:
    """Return where a model is described."""
    version = "" if model_version is None else f"/versions/{model_version}"
    return f"/v1/models/{model_name}{version}"


def plain(values: Values) -> list[float | None]:
    """Write numbers of any library as Python's, NaN as None."""
    return [None if value is None or math.isnan(value) else float(value) for value in values]
