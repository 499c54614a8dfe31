"""How good a forecaster is: many origins of each series in one pass, beside other methods."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch

from app.artifact.card import Accuracy
from app.errors import InvalidInputError
from models import metrics
from models.batches import Crop, stack_crops
from models.forecaster import Forecaster
from models.naive import seasonal_naive
from models.scores import LevelShare, Scores, StepScores, score, score_levels, score_steps
from models.series import FloatArray, Series, SeriesSet

_BATCH = 64
_LEVELS = metrics.EVALUATION_LEVELS

MODEL = "model"
SEASONAL_NAIVE = "seasonal naive"

Method = Callable[[FloatArray], FloatArray]
"""From a history ``(time,)`` to ``(horizon, levels)`` at ``metrics.EVALUATION_LEVELS``."""


@dataclass(frozen=True, slots=True)
class Backtest:
    """A forecaster's scores beside other methods', over the same windows.

    Attributes:
        rivals: Scores of further methods, by name.
        steps: One for each step ahead.
        calibration: One for each of ``metrics.EVALUATION_LEVELS``.
    """

    num_series: int
    num_windows: int
    horizon: int
    model: Scores
    seasonal_naive: Scores
    rivals: dict[str, Scores]
    steps: tuple[StepScores, ...]
    calibration: tuple[LevelShare, ...]

    def to_accuracy(self, data_set: str) -> Accuracy:
        """Return what goes into a model's card."""
        model, naive = asdict(self.model), asdict(self.seasonal_naive)
        names = ("mase", "smape", "weighted_quantile_loss")
        return Accuracy(
            data_set=data_set,
            num_series=self.num_series,
            coverage_80=model["coverage_80"],
            **{name: model[name] for name in names},
            **{f"seasonal_naive_{name}": naive[name] for name in names},
        )


@dataclass(frozen=True, slots=True)
class Window:
    """The ``horizon`` steps of a series after its first ``origin`` ones."""

    series: Series
    origin: int


def rolling_windows(items: SeriesSet, *, horizon: int, num_windows: int) -> list[Window]:
    """Cut the last ``num_windows`` stretches of ``horizon`` steps, as far as each series has them.

    A window must leave its forecaster two values at least.

    Raises:
        InvalidInputError: No series is long enough for a single one.
    """
    windows = [
        Window(series, len(series.target) - back * horizon)
        for series in items.series
        for back in range(num_windows, 0, -1)
        if series.until(max(0, len(series.target) - back * horizon)).num_observations > 1
    ]
    if not windows:
        raise InvalidInputError(f"no series is longer than the horizon of {horizon} steps")
    return windows


@dataclass(frozen=True, slots=True)
class Forecasts:
    """What several methods say of the same windows.

    Attributes:
        horizon: Steps of each window.
        season: Steps in one season.
        actual: ``(windows, horizon)``, NaN where missing.
        scales: ``(windows,)``, the denominators of MASE.
        quantiles: By method, ``(windows, horizon, levels)`` at ``metrics.EVALUATION_LEVELS``.
    """

    windows: list[Window]
    horizon: int
    season: int
    actual: FloatArray
    scales: FloatArray
    quantiles: dict[str, FloatArray]


def forecast_by_methods(
    network: Forecaster,
    windows: list[Window],
    *,
    season: int,
    horizon: int,
    rivals: Mapping[str, Method] | None = None,
) -> Forecasts:
    """Forecast ``windows`` with ``network``, the seasonal naive and ``rivals``.

    Args:
        network: A forecaster in evaluation mode.
        windows: What to forecast.
        season: Steps in one season.
        horizon: Steps of each window, at most the network's own.
        rivals: Further methods, by name.
    """

    def forecast_naive(history: FloatArray) -> FloatArray:
        return seasonal_naive(history, season=season, horizon=horizon, levels=_LEVELS)

    histories = [window.series.target[: window.origin] for window in windows]
    methods = {SEASONAL_NAIVE: forecast_naive, **(rivals or {})}
    others = {
        name: np.stack([method(history) for history in histories])
        for name, method in methods.items()
    }
    return Forecasts(
        windows=windows,
        horizon=horizon,
        season=season,
        actual=np.stack([w.series.target[w.origin : w.origin + horizon] for w in windows]),
        scales=np.array([metrics.seasonal_scale(history, season) for history in histories]),
        quantiles={MODEL: forecast_windows(network, windows)[:, :horizon], **others},
    )


def summarise(forecasts: Forecasts) -> Backtest:
    """Score every method."""
    actual, scales, quantiles = forecasts.actual, forecasts.scales, forecasts.quantiles
    model, naive = quantiles[MODEL], quantiles[SEASONAL_NAIVE]
    return Backtest(
        num_series=len({id(window.series) for window in forecasts.windows}),
        num_windows=len(forecasts.windows),
        horizon=forecasts.horizon,
        model=score(actual, model, scales),
        seasonal_naive=score(actual, naive, scales),
        rivals={
            name: score(actual, rival, scales)
            for name, rival in quantiles.items()
            if name not in {MODEL, SEASONAL_NAIVE}
        },
        steps=score_steps(actual, model, naive, scales),
        calibration=score_levels(actual, model),
    )


def forecast_windows(network: Forecaster, windows: list[Window]) -> FloatArray:
    """Forecast ``(windows, horizon, levels)`` at ``metrics.EVALUATION_LEVELS``, in their order.

    The windows of one series share one pass: what a causal network says at a step does not depend
    on later values.
    """
    by_series: dict[int, list[int]] = {}
    for place, window in enumerate(windows):
        by_series.setdefault(id(window.series), []).append(place)
    groups = sorted(by_series.values(), key=lambda g: (len(g), max(windows[p].origin for p in g)))
    forecasts = np.empty((len(windows), network.config.horizon, len(_LEVELS)))
    for first in range(0, len(groups), _BATCH):
        for same in _same_length(groups[first : first + _BATCH]):
            forecasts[np.array(same)] = _forecast_groups(network, windows, same)
    return forecasts


def _same_length(groups: list[list[int]]) -> list[list[list[int]]]:
    lengths = sorted({len(group) for group in groups})
    return [[group for group in groups if len(group) == length] for length in lengths]


@torch.no_grad()
def _forecast_groups(
    network: Forecaster, windows: list[Window], groups: list[list[int]]
) -> FloatArray:
    """Forecast groups of equal size, one series each: ``(groups, size, horizon, levels)``."""
    stops = [max(windows[place].origin for place in group) for group in groups]
    crops = [
        Crop(windows[group[0]].series, 0, stop, stop)
        for group, stop in zip(groups, stops, strict=True)
    ]
    batch = stack_crops(crops, network.config.horizon)
    origins = torch.tensor([[windows[place].origin - 1 for place in group] for group in groups])
    trained = network.forecast_origins(batch, origins).numpy()
    return interpolate_levels(trained, network.config.quantile_levels)


def interpolate_levels(quantiles: FloatArray, trained_levels: tuple[float, ...]) -> FloatArray:
    """Read ``quantiles`` ``(..., trained)`` at ``metrics.EVALUATION_LEVELS``, linear in between."""
    levels = np.asarray(trained_levels)
    above = np.clip(np.searchsorted(levels, _LEVELS), 1, len(levels) - 1)
    share = (np.asarray(_LEVELS) - levels[above - 1]) / (levels[above] - levels[above - 1])
    share = np.clip(share, 0, 1)
    read: FloatArray = quantiles[..., above - 1] * (1 - share) + quantiles[..., above] * share
    return read
