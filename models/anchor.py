"""A damped trend that forecasts are drawn to: half learned, half computed.

So does the Theta method, which follows half a linear trend from a level by exponential smoothing
(Hyndman and Billah (2003), Unmasking the Theta method, Int. J. Forecasting 19).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from models.config import NetworkConfig, Transform
from models.observations import SMALLEST_SQUARE

DAMPING: dict[Transform, float] = {"log": 0.6, "identity": 0.85}
"""Share of the mean change that is followed."""

SHRINKAGE = 2.0
"""Changes that count against the trend, so that a few make little of one."""


class DampedTrend(NamedTuple):
    """The mean change of a step so far, and of how many changes it is the mean."""

    mean_change: Tensor
    """``(batch, time, 1)``, float64"""
    num_changes: Tensor
    """``(batch, time, 1)``, float64"""

    def follow(self, window: Tensor, weights: Tensor, config: NetworkConfig) -> Tensor:
        """Return where the trend leads from the weighted mean of the window.

        Args:
            window: Recent values without their season ``(batch, time, window)``, newest first.
            weights: How much each counts, same shape, float64.
            config: Of the network.

        Returns: ``(batch, time, horizon)``, float64, on the axis of ``window``.
        """
        ages = torch.arange(config.window, device=window.device)
        ahead = torch.arange(1, config.horizon + 1, device=window.device)
        weight = weights.sum(-1, keepdim=True).clamp(min=SMALLEST_SQUARE)
        level = (window * weights).sum(-1, keepdim=True) / weight  # (batch, time, 1)
        age = (weights * ages).sum(-1, keepdim=True) / weight
        trust = self.num_changes / (self.num_changes + SHRINKAGE)
        step = DAMPING[config.transform] * trust * self.mean_change
        return level + step * (age + ahead)  # (batch, time, horizon)
