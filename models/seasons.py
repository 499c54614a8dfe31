"""Season factors of each step: what a phase of the season adds, as far as is known by then.

As in classical decomposition they are deviations from a centred moving average (Hyndman and
Athanasopoulos, Forecasting: Principles and Practice, 3rd ed., section 3.4), known half a season
late, averaged per phase with exponentially falling weight for older cycles.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from models.config import NetworkConfig
from models.observations import (
    SMALLEST_SQUARE,
    SUM_DEVIATION,
    SUM_ERROR,
    TINY,
    Observations,
    average,
)

_LEAST_OBSERVED_SHARE = 0.8
_ROUNDING = 2e-7  # of float32, relative; absolute on logarithms


class SeasonFactors(nn.Module):
    """Follows the season of each series; nothing of it is learned."""

    cycle_weights: Tensor
    cycle_offsets: Tensor
    phase_offsets: Tensor
    phase_choice: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        season, num_cycles = config.season, config.num_cycles
        constants = {
            "cycle_weights": 0.5 ** (torch.arange(num_cycles) / config.half_life),
            "cycle_offsets": torch.arange(num_cycles - 1, -1, -1) * season,
            "phase_offsets": season - torch.arange(season),
            "phase_choice": _phase_choice(config),
        }
        for name, constant in constants.items():
            self.register_buffer(name, constant, persistent=False)

    @override
    def forward(self, seen: Observations) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Find the factor of each phase as known at each step.

        Returns: Factors ``(batch, time, season)``, newest phase first; and of each new step
            ``(batch, time)``, squared, the error of the factor and the deviation, float64, zero
            where one is not known.
        """
        if self.config.season == 1:
            none = torch.zeros_like(seen.new)
            return none.float().unsqueeze(-1), (none, none)
        season, first = self.config.season, self.config.num_cycles * self.config.season
        deviation, has_deviation = self._deviations(seen)  # (batch, time + num_cycles * season)
        length = seen.live.shape[1] + season
        steps = torch.arange(length, device=deviation.device)
        both = torch.stack([deviation, has_deviation], 1)  # (batch, 2, ...)
        cycles = both[:, :, steps[:, None] + self.cycle_offsets]
        sums = (cycles * self.cycle_weights).double().sum(-1).float()
        weighted, weight = sums.unbind(1)  # (batch, time + season)
        has_factor = weight > 0
        factor = torch.where(has_factor, weighted / weight.clamp(min=TINY), 0.0)
        phases = factor[:, seen.steps + self.phase_offsets]  # (batch, time, season)
        phases = phases - average(phases)

        now, expected = deviation[:, first:], factor[:, :-season]
        counts = has_deviation[:, first:] * has_factor[:, :-season] * seen.live
        error, size = ((now - expected) * counts).double(), (now * counts).double()
        return phases, (error * error, size * size)

    def strength(self, totals: tuple[Tensor, ...]) -> Tensor:
        """Return the share of the deviations that the factors explain ``(batch, time, 1)``.

        Args:
            totals: Running sums, each ``(batch, time, 1)``.
        """
        error, deviation = totals[SUM_ERROR], totals[SUM_DEVIATION]
        explained = 1 - error / deviation.clamp(min=SMALLEST_SQUARE)
        return torch.where(deviation > 0, explained, 0.0).clamp(0, 1).float()

    def around(self, phases: Tensor, strength: Tensor) -> Tensor:
        """Return the season of the window, newest first, and of the horizon, one after the other.

        It fades where the factors explain little.

        Args:
            phases: What ``forward`` returned.
            strength: What ``strength`` returned.

        Returns: ``(batch, time, window + horizon)``.
        """
        gate = (strength / self.config.season_gate).clamp(0, 1)
        # A product with ones and zeros picks the phases exactly, and faster than an index does.
        return gate * (phases @ self.phase_choice)

    def _deviations(self, seen: Observations) -> tuple[Tensor, Tensor]:
        season, half = self.config.season, self.config.season // 2
        spare = self.config.tail_length - 2 * half - self.config.num_cycles * season
        values, observed = seen.transformed[:, spare:], seen.observed[:, spare:]
        sums = torch.stack([values, observed.double()], 1).cumsum(2)
        sums = functional.pad(sums, (1, 0))  # (batch, 2, 1 + length)
        if season % 2:
            moving = sums[..., season:] - sums[..., :-season]
        else:
            whole = sums[..., season:] - sums[..., :-season]
            moving = (whole[..., :-1] + whole[..., 1:]) / 2
        total, count = moving.unbind(1)
        mean = total / count.clamp(min=1)
        enough = count >= _LEAST_OBSERVED_SHARE * season
        centre = slice(half, -half)
        has_deviation = (enough & observed[:, centre]).float()
        deviation = (values[:, centre] - mean).float()
        # What rounding leaves of a constant series has no season, nor the same one at any size.
        size = torch.ones_like(deviation) if self.config.transform == "log" else mean.float()
        is_real = deviation.abs() > _ROUNDING * size.abs()
        return torch.where(is_real, deviation, 0.0) * has_deviation, has_deviation


def _phase_choice(config: NetworkConfig) -> Tensor:
    """Ones where a phase, newest first, belongs to a step back in the window or to one ahead."""
    half = config.season // 2
    back = torch.arange(config.window) - half
    ahead = -half - 1 - torch.arange(config.horizon)
    phases = torch.cat([back, ahead]) % config.season
    return functional.one_hot(phases, config.season).T.float()
