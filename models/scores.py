"""Measures of forecasts over a whole set: in one figure each, by step ahead, and by level."""

from dataclasses import dataclass

import numpy as np

from models import metrics
from models.metrics import EVALUATION_LEVELS
from models.series import FloatArray

_MEDIAN = EVALUATION_LEVELS.index(0.5)


@dataclass(frozen=True, slots=True)
class Scores:
    """Measures of one forecast method over a whole set, see ``models.metrics``."""

    mase: float
    smape: float
    weighted_quantile_loss: float
    scaled_quantile_loss: float
    coverage_80: float


@dataclass(frozen=True, slots=True)
class StepScores:
    """Measures of one step ahead; ``step`` counts from 1."""

    step: int
    mase: float
    seasonal_naive_mase: float
    coverage_80: float


@dataclass(frozen=True, slots=True)
class LevelShare:
    """Share of actual values that lie below the quantile of a level; the same where calibrated."""

    level: float
    share_below: float


def score(actual: FloatArray, quantiles: FloatArray, scales: FloatArray) -> Scores:
    """Measure a method.

    Args:
        actual: ``(windows, horizon)``, NaN where missing.
        quantiles: ``(windows, horizon, levels)`` at ``metrics.EVALUATION_LEVELS``.
        scales: ``(windows,)``, the denominators of MASE.
    """
    median = quantiles[..., _MEDIAN]
    return Scores(
        mase=_mean(metrics.mase(actual, median, scales)),
        smape=_mean(metrics.smape(actual, median)),
        weighted_quantile_loss=metrics.weighted_quantile_loss(actual, quantiles, EVALUATION_LEVELS),
        scaled_quantile_loss=_mean(
            metrics.scaled_quantile_loss(actual, quantiles, levels=EVALUATION_LEVELS, scales=scales)
        ),
        coverage_80=_mean(metrics.coverage(actual, quantiles[..., 0], quantiles[..., -1])),
    )


def score_steps(
    actual: FloatArray, model: FloatArray, naive: FloatArray, scales: FloatArray
) -> tuple[StepScores, ...]:
    """Measure each step ahead; arguments as those of ``score``, ``naive`` as ``model``."""
    steps: list[StepScores] = []
    for step in range(actual.shape[1]):
        one = slice(step, step + 1)
        own = score(actual[:, one], model[:, one], scales)
        mase = _mean(metrics.mase(actual[:, one], naive[:, one, _MEDIAN], scales))
        steps.append(StepScores(step + 1, own.mase, mase, own.coverage_80))
    return tuple(steps)


def score_levels(actual: FloatArray, quantiles: FloatArray) -> tuple[LevelShare, ...]:
    """Count the actual values below each quantile; arguments as those of ``score``."""
    known = ~np.isnan(actual)
    below = (actual[..., np.newaxis] < quantiles)[known]
    return tuple(
        LevelShare(level, float(share))
        for level, share in zip(EVALUATION_LEVELS, below.mean(0), strict=True)
    )


def mase_of(actual: FloatArray, quantiles: FloatArray, scales: FloatArray) -> FloatArray:
    """Return the MASE ``(windows,)`` of each window; arguments as those of ``score``."""
    return metrics.mase(actual, quantiles[..., _MEDIAN], scales)


def _mean(values: FloatArray) -> float:
    return float(metrics.mean_known(values))
