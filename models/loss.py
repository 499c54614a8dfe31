"""The loss: quantile loss of every horizon step from every origin, series weighing alike."""

import torch
from torch import Tensor

from models.network import StepForecasts


def steps_ahead(values: Tensor, origins: Tensor, horizon: int) -> Tensor:
    """Pick the values after each origin: ``(batch, time)`` gives ``(batch, origins, horizon)``.

    A step past the last one repeats the last value; mask it.
    """
    batch, time = values.shape
    ahead = torch.arange(1, horizon + 1, device=values.device)
    index = (origins.unsqueeze(-1) + ahead).clamp(max=time - 1)  # (batch, origins, horizon)
    return values.gather(1, index.reshape(batch, -1)).reshape(index.shape)


def target_mask(observed: Tensor, origins: Tensor, *, limits: Tensor, horizon: int) -> Tensor:
    """Tell which targets count ``(batch, origins, horizon)``: observed ones before ``limits``.

    Args:
        observed: Which values are observed ``(batch, time)``.
        origins: Steps forecast from ``(batch, origins)``; an origin without a value counts, too.
        limits: First step of each row whose value must not be learned from ``(batch,)``.
        horizon: Steps ahead.
    """
    ahead = torch.arange(1, horizon + 1, device=observed.device)
    before_limit = origins.unsqueeze(-1) + ahead < limits[:, None, None]
    return steps_ahead(observed, origins, horizon) & before_limit


def quantile_losses(forecasts: StepForecasts, origins: Tensor, levels: Tensor) -> Tensor:
    """Mean over levels of the quantile loss, in units of each origin's scale.

    With e = target - quantile and a = level it is max(a e, (a - 1) e), see ``models.metrics``.

    Returns:
        ``(batch, origins, horizon)``; unobserved targets give numbers without meaning.
    """
    horizon = forecasts.base.shape[-1]
    target = steps_ahead(forecasts.transformed, origins, horizon)
    wanted = ((target - forecasts.base) / forecasts.scale.unsqueeze(-1)).float()
    error = wanted.unsqueeze(-1) - forecasts.quantiles
    return torch.maximum(levels * error, (levels - 1) * error).mean(-1)


def series_mean(losses: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
    """Mean loss of a batch in which each series weighs its own weight, however long it is.

    Args:
        losses: ``(batch, origins, horizon)``.
        mask: Which of them count, same shape.
        weights: One per series ``(batch,)``.
    """
    counted = torch.where(mask, losses, 0.0).sum((1, 2))
    means = counted / mask.sum((1, 2)).clamp(min=1)
    return (means * weights).mean()
