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
    context_length: int,
    rivals: Mapping[str, Method] | None = None,
) -> Forecasts:
    """Forecast ``windows`` with ``network``, the seasonal naive and ``rivals``.

    Args:
        network: A forecaster in evaluation mode.
        windows: What to forecast.
        season: Steps in one season.
        horizon: Steps of each window, at most the network's own.
        context_length: Steps before each window that ``network`` reads.
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
    quantiles = forecast_windows(network, windows, context_length=context_length)
    return Forecasts(
        windows=windows,
        horizon=horizon,
        season=season,
        actual=np.stack([w.series.target[w.origin : w.origin + horizon] for w in windows]),
        scales=np.array([metrics.seasonal_scale(history, season) for history in histories]),
        quantiles={MODEL: quantiles[:, :horizon], **others},
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


def forecast_windows(
    network: Forecaster, windows: list[Window], *, context_length: int
) -> FloatArray:
    """Forecast ``(windows, horizon, levels)`` at ``metrics.EVALUATION_LEVELS``, in their order.

    As a service does, the network reads the last ``context_length`` steps before each window.
    Windows of one series that begin to be read at the same step share one pass: what a causal
    network says at a step does not depend on later values.
    """
    by_crop: dict[tuple[int, int], list[int]] = {}
    for place, window in enumerate(windows):
        first = max(0, window.origin - context_length)
        by_crop.setdefault((id(window.series), first), []).append(place)
    groups = [
        _Group(windows[places[0]].series, first, [windows[p].origin for p in places], places)
        for (_, first), places in by_crop.items()
    ]
    groups.sort(key=lambda group: (len(group.origins), group.num_steps))
    forecasts = np.empty((len(windows), network.config.horizon, len(_LEVELS)))
    for first in range(0, len(groups), _BATCH):
        for same in _same_size(groups[first : first + _BATCH]):
            forecasts[np.array([group.places for group in same])] = _forecast_groups(network, same)
    return forecasts


@dataclass(frozen=True, slots=True)
class _Group:
    """Windows of one series that share a pass from the step ``first`` on."""

    series: Series
    first: int
    origins: list[int]
    places: list[int]

    @property
    def num_steps(self) -> int:
        return max(self.origins) - self.first


def _same_size(groups: list[_Group]) -> list[list[_Group]]:
    sizes = sorted({len(group.origins) for group in groups})
    return [[group for group in groups if len(group.origins) == size] for size in sizes]


@torch.no_grad()
def _forecast_groups(network: Forecaster, groups: list[_Group]) -> FloatArray:
    """Forecast groups of equal size: ``(groups, size, horizon, levels)``."""
    stops = [max(group.origins) for group in groups]
    crops = [
        Crop(group.series, group.first, stop, stop)
        for group, stop in zip(groups, stops, strict=True)
    ]
    batch = stack_crops(crops, network.config.horizon)
    origins = [[origin - 1 - group.first for origin in group.origins] for group in groups]
    trained = network.forecast_origins(batch, torch.tensor(origins)).numpy()
    return interpolate_levels(trained, network.config.quantile_levels)


def interpolate_levels(quantiles: FloatArray, trained_levels: tuple[float, ...]) -> FloatArray:
    """Read ``quantiles`` ``(..., trained)`` at ``metrics.EVALUATION_LEVELS``, linear in between."""
    levels = np.asarray(trained_levels)
    above = np.clip(np.searchsorted(levels, _LEVELS), 1, len(levels) - 1)
    share = (np.asarray(_LEVELS) - levels[above - 1]) / (levels[above] - levels[above - 1])
    share = np.clip(share, 0, 1)
    read: FloatArray = quantiles[..., above - 1] * (1 - share) + quantiles[..., above] * share
    return read
