"""The scale of each covariate, over all series, which the network keeps with its weights."""

import numpy as np
import torch

from models.network import Member
from models.series import FloatArray, SeriesSet


def standardise_covariates(network: Member, items: SeriesSet) -> None:
    """Set mean and spread of each covariate, over all series, in the network."""
    for kind in ("past", "future", "static"):
        width = len(getattr(network, f"{kind}_mean"))  # what is no number comes after the numbers
        if not width:
            continue
        name = f"{kind}_covariates"
        count = _sum_known(items, name, np.zeros(width), power=0).clip(min=1)
        mean = _sum_known(items, name, np.zeros(width), power=1) / count
        std = np.sqrt(_sum_known(items, name, mean, power=2) / count)
        getattr(network, f"{kind}_mean").copy_(torch.from_numpy(mean))
        getattr(network, f"{kind}_std").copy_(torch.from_numpy(np.where(std > 0, std, 1.0)))


def _sum_known(items: SeriesSet, name: str, mean: FloatArray, *, power: int) -> FloatArray:
    """Sum a power of each covariate's distance from its ``mean``, series after series."""
    total = np.zeros(len(mean))
    for item in items.series:
        values = np.atleast_2d(getattr(item, name))[:, : len(mean)]
        total += np.where(np.isnan(values), 0.0, (values - mean) ** power).sum(0)
    return total
