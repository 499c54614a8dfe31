"""What the network reads at each step: a function of the values up to it.

It sees them through a bounded tail and running sums. Nothing here is learned, and nothing looks
ahead, so a forecast from a full history equals one from the new values and the carried state.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import override

from models.anchor import DampedTrend
from models.config import NetworkConfig
from models.observations import (
    COUNT,
    COUNT_CHANGE,
    COUNT_STEP,
    SMALLEST_SQUARE,
    SUM_ABSOLUTE,
    SUM_CHANGE,
    SUM_LEVEL,
    SUM_STEP,
    TINY,
    Observations,
    average,
    smallest_kept,
)
from models.seasons import SeasonFactors

_LARGEST_LOG = 85.0
_LARGEST_FLOAT = 3e38
_LARGEST_FEATURE = 20.0
_SMALLEST_SCALE = 1e-30


class Features(NamedTuple):
    """Inputs of the network at every step, and how to read its outputs."""

    inputs: Tensor
    """``(batch, time, num_features)``"""
    level: Tensor
    """``(batch, time)``, newest observed value or mean, transformed and without season; float64"""
    season: Tensor
    """``(batch, time, horizon)``, expected deviation from the level at each step ahead"""
    scale: Tensor
    """``(batch, time)``, unit of the network's outputs on the transformed axis"""
    floor: Tensor
    """``(batch, time)``, what smaller values are raised to before their logarithm; float64"""
    anchor: Tensor
    """``(batch, time, horizon)``, a damped trend from the level, in units of ``scale``"""
    transformed: Tensor
    """``(batch, time)``, the new values on the transformed axis, zero where missing; float64"""
    observed: Tensor
    """``(batch, time)``, which of the new values are observed"""
    recent_target: Tensor
    """``(batch, tail + time)``, floored values with NaN for missing, tail first"""
    sums: Tensor
    """``(batch, time, num_sums)``, running sums after every step; float64"""


class CausalFeatures(nn.Module):
    """Turns raw values and carried state into the inputs of every step."""

    window_offsets: Tensor
    newest_first: Tensor
    level_weights: Tensor
    anchor_weights: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.seasons = SeasonFactors(config)
        window = config.window
        constants = {
            "window_offsets": config.tail_length - torch.arange(window),
            "newest_first": torch.arange(window, 0, -1.0),
            "level_weights": _falling_weights(config.level_smoothing, window),
            "anchor_weights": _falling_weights(config.anchor_smoothing, window),
        }
        for name, constant in constants.items():
            self.register_buffer(name, constant, persistent=False)

    @override
    def forward(
        self, past_target: Tensor, sequence_lens: Tensor, recent_target: Tensor, sums: Tensor
    ) -> Features:
        """Compute the features of every new step.

        Args:
            past_target: New values ``(batch, time)``, NaN where missing, anything past
                ``sequence_lens``.
            sequence_lens: New steps of each row ``(batch,)``.
            recent_target: Values before them ``(batch, tail_length)``, NaN where there are none.
            sums: Running sums before them ``(batch, num_sums)``, float64.
        """
        seen, counts = self._observe(past_target, sequence_lens, recent_target, sums)
        lag_values, lag_observed = self._windows(seen)  # (batch, time, window), newest first
        phases, errors = self.seasons(seen)
        running = self._accumulate(seen, counts, errors, sums)  # (batch, time, num_sums)
        totals = torch.split(running, 1, -1)  # num_sums of (batch, time, 1)

        strength = self.seasons.strength(totals)  # (batch, time, 1)
        season = self.seasons.around(phases, strength)  # (batch, time, window + horizon)
        back, ahead = torch.split(season, [self.config.window, self.config.horizon], -1)
        adjusted = lag_values - back.double()
        share = average(lag_observed)
        level = self._level(adjusted, lag_observed, share, totals)  # (batch, time, 1)
        scale = self._scale(totals)  # (batch, time, 1)
        window = self.in_units((adjusted - level).float(), scale)
        window = window.clamp(-_LARGEST_FEATURE, _LARGEST_FEATURE) * lag_observed

        change, age = self._change_in_units(seen, scale), self._age(totals)
        spread = (average(window * window) / share.clamp(min=1e-3)).sqrt()
        ahead_in_units = self.in_units(ahead, scale)
        newest_observed = lag_observed[..., :1]
        inputs = [window, ahead_in_units, strength, change, spread, share, age, newest_observed]
        return Features(
            inputs=torch.cat(inputs, -1),
            level=level.squeeze(-1),
            season=ahead,
            scale=scale.squeeze(-1),
            floor=smallest_kept(totals[SUM_ABSOLUTE], totals[COUNT]).squeeze(-1),
            anchor=self._anchor(adjusted - level, lag_observed, totals, scale),
            transformed=seen.new,
            observed=seen.observed[:, self.config.tail_length :],
            recent_target=torch.where(seen.observed, seen.kept, torch.nan),
            sums=running,
        )

    def initial_state(self, batch: int) -> dict[str, Tensor]:
        """Return the state before the first step of ``batch`` series."""
        device = self.newest_first.device
        return {
            "recent_target": torch.full((batch, self.config.tail_length), torch.nan, device=device),
            "running_sums": torch.zeros(
                (batch, self.config.num_sums), dtype=torch.float64, device=device
            ),
        }

    def in_units(self, values: Tensor, scale: Tensor) -> Tensor:
        """Divide differences on the transformed axis by their unit, which is one on a log axis."""
        return values if self.config.transform == "log" else values / scale

    def restore(self, transformed: Tensor, floor: Tensor) -> Tensor:
        """Take float64 numbers from the transformed axis to the target's units.

        On the axis of logarithms, what is at the floor or below it becomes zero, of which the floor
        is the image; from twice the floor on, numbers are what they are.

        Args:
            transformed: ``(batch, ...)``.
            floor: That of ``Features``, of a shape that spreads over ``transformed``.
        """
        if self.config.transform == "log":
            values = transformed.clamp(-_LARGEST_LOG, _LARGEST_LOG).exp()
            return torch.minimum(values, (2 * (values - floor)).clamp(min=0))
        lowest = 0.0 if self.config.is_nonnegative else -_LARGEST_FLOAT
        return transformed.clamp(lowest, _LARGEST_FLOAT)

    def _observe(
        self, past_target: Tensor, sequence_lens: Tensor, recent_target: Tensor, sums: Tensor
    ) -> tuple[Observations, Tensor]:
        steps = torch.arange(past_target.shape[1], device=past_target.device)
        live = steps < sequence_lens[:, None]
        is_new = live & ~past_target.isnan()  # (batch, time)
        new = torch.where(is_new, past_target, 0.0)
        counted = torch.stack([new.abs(), is_new.float()], -1).double().cumsum(1)
        counts = sums[:, None, :SUM_LEVEL] + counted
        if self.config.transform == "log":
            floor = smallest_kept(counts[..., SUM_ABSOLUTE], counts[..., COUNT])
            new = torch.maximum(new, floor.float())
        observed = torch.cat([~recent_target.isnan(), is_new], 1)  # (batch, tail + time)
        kept = torch.cat([recent_target, new], 1)
        transformed = torch.where(observed, self._transform(kept), 0.0)
        new = transformed[:, self.config.tail_length :]
        return Observations(kept, transformed, observed, live, steps[:, None], new), counts

    def _accumulate(
        self, seen: Observations, counts: Tensor, errors: tuple[Tensor, Tensor], sums: Tensor
    ) -> Tensor:
        first = self.config.tail_length
        both = (seen.observed[:, first:] & seen.observed[:, first - 1 : -1]).double()
        step = (seen.new - seen.transformed[:, first - 1 : -1]).abs() * both
        added = [seen.new, step, both, *errors]
        if self.config.anchor_share:
            change, known = self._change(seen)
            added += [change, known.double()]
        so_far = sums[:, None, SUM_LEVEL:] + torch.stack(added, -1).cumsum(1)
        return torch.cat([counts, so_far], -1)

    def _transform(self, kept: Tensor) -> Tensor:
        return (
            kept.double().clamp(min=TINY).log() if self.config.transform == "log" else kept.double()
        )

    def _windows(self, seen: Observations) -> tuple[Tensor, Tensor]:
        index = seen.steps + self.window_offsets  # (time, window)
        return seen.transformed[:, index], seen.observed.float()[:, index]

    def _level(
        self, adjusted: Tensor, lag_observed: Tensor, share: Tensor, totals: tuple[Tensor, ...]
    ) -> Tensor:
        if self.config.level_smoothing < 1:
            weights = lag_observed * self.level_weights
            weight = weights.sum(-1, keepdim=True).clamp(min=SMALLEST_SQUARE)
            recent = (adjusted * weights).sum(-1, keepdim=True) / weight
        else:
            newest = (lag_observed * self.newest_first).argmax(-1, keepdim=True)
            recent = adjusted.gather(-1, newest)
        mean = totals[SUM_LEVEL] / totals[COUNT].clamp(min=1)
        return torch.where(share > 0, recent, mean)

    def _scale(self, totals: tuple[Tensor, ...]) -> Tensor:
        if self.config.transform == "log":
            return torch.ones_like(totals[COUNT]).float()
        step = totals[SUM_STEP] / totals[COUNT_STEP].clamp(min=1)
        size = totals[SUM_ABSOLUTE] / totals[COUNT].clamp(min=1)
        return torch.maximum(step, 1e-3 * size).clamp(min=_SMALLEST_SCALE).float()

    def _change(self, seen: Observations) -> tuple[Tensor, Tensor]:
        """Change against the season before, and where it is known: both are observed."""
        first, season = self.config.tail_length, self.config.season
        before = slice(first - season, -season)
        known = seen.observed[:, first:] & seen.observed[:, before]
        return (seen.new - seen.transformed[:, before]) * known, known

    def _change_in_units(self, seen: Observations, scale: Tensor) -> Tensor:
        change, _ = self._change(seen)
        in_units = self.in_units(change.float().unsqueeze(-1), scale)
        return in_units.clamp(-_LARGEST_FEATURE, _LARGEST_FEATURE)

    def _anchor(
        self, window: Tensor, lag_observed: Tensor, totals: tuple[Tensor, ...], scale: Tensor
    ) -> Tensor:
        if not self.config.anchor_share:
            return scale.expand(-1, -1, self.config.horizon)  # that nobody reads
        mean_change = totals[SUM_CHANGE] / totals[COUNT_CHANGE].clamp(min=1)
        trend = DampedTrend(mean_change / self.config.season, totals[COUNT_CHANGE])
        anchor = trend.follow(window, lag_observed * self.anchor_weights, self.config)
        return self.in_units(anchor.float(), scale)

    def _age(self, totals: tuple[Tensor, ...]) -> Tensor:
        return torch.log1p((totals[COUNT] - 1).clamp(min=0)).float() / 5


def _falling_weights(smoothing: float, count: int) -> Tensor:
    return (1 - smoothing) ** torch.arange(count).double()


NUM_EXTRAS = 6
"""Features beside the window and the season ahead."""
