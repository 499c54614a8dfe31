"""One TimeGPT request as windows over flat values: to series of the core, back to flat answers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.artifact.card import Card
from app.errors import InvalidInputError, InvalidSeriesError
from app.gateway.dialects.adapter import covariates_by_order
from app.gateway.dialects.timegpt_levels import Intervals
from app.gateway.dialects.timegpt_schemas import (
    TimeGptAnomalies,
    TimeGptCrossValidation,
    TimeGptForecast,
    TimeGptOnlineAnomalies,
    TimeGptSeries,
)
from app.gateway.dialects.vocabulary import Vocabulary
from app.gateway.dialects.windows import Window
from app.gateway.forecast_schemas import ForecastRequest, Series
from app.gateway.service import Forecast

Body = TimeGptForecast | TimeGptCrossValidation | TimeGptAnomalies | TimeGptOnlineAnomalies
Quantiles = NDArray[np.float32]

_FREQUENCIES = {"d": "D", "w": "W", "q": "Q", "y": "Y"}
"""What polars writes otherwise than pandas; the SDK itself turns ``mo`` into ``MS``."""

_WORDS = Vocabulary({"horizon": "h", "quantile_levels": "level"})
_IN_SERIES = re.compile(r"/series/(\d+)/(\w+)(?:/(\d+))?")


@dataclass(frozen=True, slots=True)
class Exogenous:
    """The covariates of a request by name: over its values, and beyond each series' end."""

    past: dict[str, list[float | None]]
    future: dict[str, list[float | None]]
    beyond: dict[str, list[float | None]]


class FlatTask:
    """A request, the windows that it stands for and the intervals that it wants."""

    def __init__(
        self,
        asked: Body,
        card: Card,
        windows: Sequence[Window],
        intervals: Intervals,
        *,
        num_future: int,
    ) -> None:
        self.known: TimeGptSeries = asked.series
        self.intervals = intervals
        self._freq = freq_alias(asked.freq)
        self._card = card
        self._windows = windows
        self._exogenous = _read_exogenous(asked.series, card, num_future)
        self._horizon = max(window.num_steps for window in windows)
        if self._horizon > card.horizon:  # before anything of that length is made
            raise InvalidInputError(f"h must be between 1 and {card.horizon} for this model", "/h")
        self._check_future()

    def request(self) -> ForecastRequest:
        """Return the native request that stands for all windows."""
        return ForecastRequest(
            series=[self._to_series(window) for window in self._windows],
            freq=self._freq,
            horizon=self._horizon,
            quantile_levels=list(self.intervals.quantile_levels),
        )

    def translate(self, error: InvalidInputError) -> InvalidInputError:
        """Name the series and the place in the flat values where our error names a window."""
        if isinstance(error, InvalidSeriesError):
            return InvalidSeriesError(str(error), [self.translate(one) for one in error.refusals])
        match = _IN_SERIES.match(error.pointer)
        if match is None:
            return _WORDS.translate(error)
        window = self._windows[int(match[1])]
        place = "" if match[3] is None else f"/{self._first(window) + int(match[3])}"
        field = "y" if match[2] == "target" else "X"
        return InvalidInputError(
            f"series {window.series}: {error}".replace("target", "y"), f"/series/{field}{place}"
        )

    def flat_quantiles(self, forecast: Forecast) -> Quantiles:
        """Return the quantiles of all windows one after another, ``(num_levels, time)``."""
        parts = [
            forecast.series[position].quantiles[:, : window.num_steps]
            for position, window in enumerate(self._windows)
        ]
        return np.concatenate(parts, axis=1)

    def places(self) -> dict[str, NDArray[np.int64]]:
        """Return where in the flat values the answers belong, and how many each series has."""
        places = [np.arange(w.cut, w.cut + w.num_steps) for w in self._windows]
        sizes = np.zeros(len(self.known.sizes), np.int64)
        for window in self._windows:
            sizes[window.series] += window.num_steps
        return {"idxs": np.concatenate(places), "sizes": sizes}

    def judged(self, quantiles: Quantiles) -> dict[str, Any]:
        """Say, beside ``places``, how far off each value is and whether it is an anomaly."""
        places = self.places()
        values = np.array(self.known.y, np.float32)[places["idxs"]]
        scores = self.intervals.scores(values, quantiles)
        return places | {"anomaly": np.abs(scores) > 1, "anomaly_score": scores}

    def _check_future(self) -> None:
        needed = len(self._windows) * self._horizon
        for place, name in enumerate(self._exogenous.beyond):
            if len(self._exogenous.beyond[name]) != needed:
                raise InvalidInputError(
                    f"X_future must have {needed} values in each list, h for each series",
                    f"/series/X_future/{place}",
                )

    def _first(self, window: Window) -> int:
        return max(window.begin, window.cut - self._card.context_length)

    def _to_series(self, window: Window) -> Series:
        first, end = self._first(window), window.cut + self._horizon
        limit = window.begin + self.known.sizes[window.series]
        begin = window.series * self._horizon
        future = {
            name: _padded(
                [
                    *column[first : min(end, limit)],
                    *self._exogenous.beyond.get(name, [])[begin : begin + self._horizon],
                ],
                end - first,
            )
            for name, column in self._exogenous.future.items()
        }
        past = {n: column[first : window.cut] for n, column in self._exogenous.past.items()}
        return Series(
            target=self.known.y[first : window.cut],
            past_covariates=past or None,
            future_covariates=future or None,
        )


def freq_alias(freq: str) -> str:
    """Write a frequency of polars as pandas does."""
    return freq[:-1] + _FREQUENCIES[freq[-1]] if freq and freq[-1] in _FREQUENCIES else freq


def check_sizes(series: TimeGptSeries, least: int) -> None:
    """Check that the sizes cut the values without rest, each to at least ``least`` values.

    Raises:
        InvalidInputError: They do not.
    """
    if sum(series.sizes) != len(series.y):
        raise InvalidInputError(
            f"sizes must add up to {len(series.y)}, the length of y", "/series/sizes"
        )
    for place, size in enumerate(series.sizes):
        if size < least:
            raise InvalidInputError(
                f"series {place} must have at least {least} values for this request",
                f"/series/sizes/{place}",
            )


def check_wishes(asked: Body) -> None:
    """Refuse what would change the numbers and is not done here.

    Raises:
        InvalidInputError: Something of that kind is asked for.
    """
    wishes = {
        "finetune_steps": asked.finetune_steps > 0,
        "finetuned_model_id": asked.finetuned_model_id is not None,
        "feature_contributions": asked.feature_contributions,
        "multivariate": asked.multivariate,
        "model_parameters": bool(asked.model_parameters),
    }
    for name, is_asked in wishes.items():
        if is_asked:
            raise InvalidInputError(f"{name} is not supported here; leave it out", f"/{name}")
    if asked.series.categorical_exog:
        raise InvalidInputError(
            "categorical_exog is not supported here; covariates are numbers",
            "/series/categorical_exog",
        )


def _read_exogenous(series: TimeGptSeries, card: Card, num_future: int) -> Exogenous:
    columns, ahead = series.X or [], series.X_future
    if (columns or ahead) and not (card.future_covariates or card.past_covariates):
        raise InvalidInputError(
            "the model was trained without covariates; leave X and X_future out", "/series/X"
        )
    for place, column in enumerate(columns):
        if len(column) != len(series.y):
            raise InvalidInputError("X must have lists as long as y", f"/series/X/{place}")
    name_all = partial(covariates_by_order, pointer="/series")
    return Exogenous(
        name_all(card.past_covariates, columns[num_future:], field="X"),
        name_all(card.future_covariates, columns[:num_future], field="X"),
        {} if ahead is None else name_all(card.future_covariates, ahead, field="X_future"),
    )


def _padded(values: list[float | None], length: int) -> list[float | None]:
    return values + [None] * (length - len(values))
