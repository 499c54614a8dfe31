"""Finds in the training data how features and targets are to be scaled."""

import numpy as np
import torch
from numpy.typing import NDArray

from models.sequences.examples import ExampleSet
from models.sequences.network import Scaling

_HEAVY_KURTOSIS = 10.0
_LEAST_VALUES = 20
_MOSTLY = 0.5


def find_scaling(items: ExampleSet) -> Scaling:
    """Return the scaling that gives each column mean 0 and spread 1 over all steps of ``items``.

    A feature has heavy tails where its excess kurtosis is above 10, such as counts that explode: it
    is read on a logarithmic axis on both sides of its median. One that is mostly a single value,
    such as rain that falls seldom, is centred on that value and scaled by the others alone: else
    these few would be extremes.
    """
    values = np.vstack([example.values for example in items.examples])
    columns = [_scale_feature(column) for column in values.T]
    centre, unit, is_heavy, mean, std = map(torch.tensor, zip(*columns, strict=True))
    answers = np.zeros((1, 0))
    if items.task == "regress":
        answers = np.stack([example.answer for example in items.examples]).astype(np.float64)
    spread = answers.std(0)
    return Scaling(
        centre=centre,
        unit=unit,
        is_heavy=is_heavy,
        mean=mean,
        std=std,
        target_mean=torch.from_numpy(answers.mean(0)),
        target_std=torch.from_numpy(np.where(spread > 0, spread, 1.0)),
    )


def _scale_feature(column: NDArray[np.float64]) -> tuple[float, float, bool, float, float]:
    """Return centre, unit, is_heavy, mean and std of ``Scaling``."""
    known = column[~np.isnan(column)]
    if not len(known) or known.min() == known.max():
        return (float(known[0]) if len(known) else 0.0), 1.0, False, 0.0, 1.0
    values, counts = np.unique(known, return_counts=True)
    if counts.max() > _MOSTLY * len(known):
        return _scale_rare(known, float(values[counts.argmax()]))
    if not _has_heavy_tails(known):
        return float(known.mean()), float(known.std()), False, 0.0, 1.0
    centre = float(np.median(known))
    unit, squeezed = _squeeze(known, centre)
    return centre, unit, True, float(squeezed.mean()), float(squeezed.std())


def _scale_rare(
    known: NDArray[np.float64], usual: float
) -> tuple[float, float, bool, float, float]:
    """Return the scaling by the values that differ from the ``usual`` one alone."""
    rare = known[known != usual]
    if not _has_heavy_tails(rare):
        return usual, _root_mean_square(rare - usual), False, 0.0, 1.0
    unit, squeezed = _squeeze(rare, usual)
    return usual, unit, True, 0.0, _root_mean_square(squeezed)


def _squeeze(values: NDArray[np.float64], centre: float) -> tuple[float, NDArray[np.float64]]:
    """Return the median distance from ``centre``, and ``values`` on the logarithmic axis."""
    distances = np.abs(values - centre)
    unit = float(np.median(distances[distances > 0]))
    return unit, np.sign(values - centre) * np.log1p(distances / unit)


def _root_mean_square(values: NDArray[np.float64]) -> float:
    return float(np.sqrt((values**2).mean()))


def _has_heavy_tails(known: NDArray[np.float64]) -> bool:
    if len(known) < _LEAST_VALUES or known.min() == known.max():
        return False
    standardised = (known - known.mean()) / known.std()
    return float((standardised**4).mean()) - 3 > _HEAVY_KURTOSIS
