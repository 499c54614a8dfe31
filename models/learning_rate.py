"""The learning rate over the steps of a training."""

import torch

_WARM_UP_SHARE = 0.1
_UNEVEN_STEPS = 10
"""With so many, the warm-up would end where it begins, and torch divides by its length."""


def one_cycle(
    optimiser: torch.optim.Optimizer, learning_rate: float, num_steps: int
) -> torch.optim.lr_scheduler.OneCycleLR:
    """Let the rate rise to ``learning_rate`` in a tenth of the steps, and fall to nearly nothing.

    The one-cycle policy of Smith and Topin (2018).
    """
    total_steps = max(num_steps + (num_steps == _UNEVEN_STEPS), 2)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        learning_rate,
        total_steps=total_steps,
        pct_start=_WARM_UP_SHARE,
    )
