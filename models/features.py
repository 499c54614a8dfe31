"""What the network reads at each step: a function of the values up to it.

It sees them through a bounded tail and running sums. Nothing here is learned, and nothing looks
ahead, so a forecast from a full history equals one from the new values and the carried state. The
season is followed as in classical decomposition: deviations from a centred moving average (Hyndman
and Athanasopoulos, Forecasting: Principles and Practice, 3rd ed., section 3.4), known half a season
late, averaged per phase with exponentially falling weight for older cycles.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import override

from models.config import NetworkConfig

_TINY = 1e-12
_LARGEST_LOG = 85.0
_LARGEST_FLOAT = 3e38
_LARGEST_FEATURE = 20.0
_FLOOR_SHARE = 0.01
_LEAST_OBSERVED_SHARE = 0.8

SUM_ABSOLUTE, COUNT, SUM_LEVEL, SUM_STEP, COUNT_STEP, SUM_ERROR, SUM_DEVIATION, NUM_SUMS = range(8)


class Features(NamedTuple):
    """Inputs of the network at every step, and how to read its outputs."""

    inputs: Tensor
    """``(batch, time, num_features)``"""
    level: Tensor
    """``(batch, time)``, newest observed value, transformed and without its season; float64"""
    season: Tensor
    """``(batch, time, horizon)``, expected deviation from the level at each step ahead"""
    scale: Tensor
    """``(batch, time)``, unit of the network's outputs on the transformed axis"""
    transformed: Tensor
    """``(batch, time)``, the new values on the transformed axis, zero where missing; float64"""
    observed: Tensor
    """``(batch, time)``, which of the new values are observed"""
    recent_target: Tensor
    """``(batch, tail + time)``, floored values with NaN for missing, tail first"""
    sums: Tensor
    """``(batch, time, NUM_SUMS)``, running sums after every step; float64"""


@dataclass(frozen=True)
class _Axis:
    """The known values on one time axis, tail first."""

    kept: Tensor  # (batch, tail + time), floored
    transformed: Tensor  # (batch, tail + time), zero where missing
    observed: Tensor  # (batch, tail + time)
    live: Tensor  # (batch, time)


class CausalFeatures(nn.Module):
    """Turns raw values and carried state into the inputs of every step."""

    cycle_weights: Tensor
    phase_ahead: Tensor
    phase_back: Tensor
    lag: Tensor
    cycle: Tensor
    phase: Tensor
    newest_first: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        season, window, half = config.season, config.window, config.season // 2
        weights = 0.5 ** (torch.arange(config.num_cycles, dtype=torch.float32) / config.half_life)
        self.register_buffer("cycle_weights", weights, persistent=False)
        ahead = torch.tensor([(-half - 1 - j) % season for j in range(config.horizon)])
        back = torch.tensor([(-half + i) % season for i in range(window)])
        self.register_buffer("phase_ahead", ahead, persistent=False)
        self.register_buffer("phase_back", back, persistent=False)
        self.register_buffer("lag", torch.arange(window), persistent=False)
        self.register_buffer("cycle", torch.arange(config.num_cycles) * season, persistent=False)
        self.register_buffer("phase", torch.arange(season), persistent=False)
        self.register_buffer("newest_first", torch.arange(window, 0, -1.0), persistent=False)

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
            sums: Running sums before them ``(batch, NUM_SUMS)``, float64.
        """
        axis, counted = self._observe(past_target, sequence_lens, recent_target, sums)
        lag_values, lag_observed = self._windows(axis)  # (batch, time, window), newest first
        if self.config.season > 1:
            phases, errors = self._seasons(axis)
            errors = sums[:, None, SUM_ERROR:] + errors.cumsum(1)
        else:
            phases = torch.zeros_like(lag_observed[..., :1])
            errors = sums[:, None, SUM_ERROR:] + torch.zeros_like(counted[..., :2])
        running = torch.cat([counted, errors], -1)  # (batch, time, NUM_SUMS)

        strength = self._strength(running)  # (batch, time, 1)
        gate = (strength / self.config.season_gate).clamp(0, 1)
        ahead = gate * phases.index_select(2, self.phase_ahead)  # (batch, time, horizon)
        adjusted = lag_values - (gate * phases.index_select(2, self.phase_back)).double()
        level = self._level(adjusted, lag_observed, running)  # (batch, time, 1)
        scale = self._scale(running)  # (batch, time, 1)
        window = ((adjusted - level).float() / scale).clamp(-_LARGEST_FEATURE, _LARGEST_FEATURE)
        window = window * lag_observed

        new = axis.transformed[:, self.config.tail_length :]
        extras = self._extras(axis, window, lag_observed, running, scale)
        inputs = torch.cat([window, ahead / scale, strength, extras], -1)
        return Features(
            inputs=inputs,
            level=level.squeeze(-1),
            season=ahead,
            scale=scale.squeeze(-1),
            transformed=new,
            observed=axis.observed[:, self.config.tail_length :],
            recent_target=torch.where(axis.observed, axis.kept, torch.nan),
            sums=running,
        )

    def restore(self, transformed: Tensor) -> Tensor:
        """Take float64 numbers from the transformed axis to the target's units, as float32."""
        if self.config.transform == "log":
            return transformed.clamp(-_LARGEST_LOG, _LARGEST_LOG).exp().float()
        return transformed.clamp(-_LARGEST_FLOAT, _LARGEST_FLOAT).float()

    def _observe(
        self, past_target: Tensor, sequence_lens: Tensor, recent_target: Tensor, sums: Tensor
    ) -> tuple[_Axis, Tensor]:
        live = (
            torch.arange(past_target.shape[1], device=past_target.device) < sequence_lens[:, None]
        )
        is_new = live & ~past_target.isnan()  # (batch, time)
        new = torch.where(is_new, past_target, 0.0)
        counts = sums[:, None, :2] + torch.stack([new.abs(), is_new.float()], -1).double().cumsum(1)
        if self.config.transform == "log":
            floor = _FLOOR_SHARE * counts[..., 0] / counts[..., 1].clamp(min=1)
            new = torch.maximum(new, floor.float().clamp(min=_TINY))
        observed = torch.cat([~recent_target.isnan(), is_new], 1)  # (batch, tail + time)
        kept = torch.cat([recent_target, new], 1)
        transformed = torch.where(observed, self._transform(kept), 0.0)
        axis = _Axis(kept, transformed, observed, live)

        first = self.config.tail_length
        value, before = transformed[:, first:], transformed[:, first - 1 : -1]
        both = (observed[:, first:] & observed[:, first - 1 : -1]).double()
        step = (value - before).abs() * both
        rest = torch.stack([value, step, both], -1).cumsum(1) + sums[:, None, SUM_LEVEL:SUM_ERROR]
        return axis, torch.cat([counts, rest], -1)  # (batch, time, SUM_ERROR)

    def _transform(self, kept: Tensor) -> Tensor:
        return (
            kept.double().clamp(min=_TINY).log()
            if self.config.transform == "log"
            else kept.double()
        )

    def _windows(self, axis: _Axis) -> tuple[Tensor, Tensor]:
        time = axis.live.shape[1]
        steps = torch.arange(time, device=axis.kept.device) + self.config.tail_length
        index = (steps[:, None] - self.lag).reshape(-1)
        shape = (axis.kept.shape[0], time, self.config.window)
        values = axis.transformed.index_select(1, index).reshape(shape)
        observed = axis.observed.float().index_select(1, index).reshape(shape)
        return values, observed

    def _seasons(self, axis: _Axis) -> tuple[Tensor, Tensor]:
        """Season factor of each phase as known at each step, and squared errors of the factors."""
        config = self.config
        deviation, has_deviation = self._deviations(axis)  # (batch, time + num_cycles * season)
        batch, time = axis.live.shape
        length = time + config.season
        steps = (
            torch.arange(length, device=deviation.device) + (config.num_cycles - 1) * config.season
        )
        index = (steps[:, None] - self.cycle).reshape(-1)
        both = torch.stack([deviation, has_deviation], 1)  # (batch, 2, ...)
        cycles = both.index_select(2, index).reshape(batch, 2, length, config.num_cycles)
        weighted = (cycles * self.cycle_weights).sum(-1)  # (batch, 2, time + season)
        has_factor = weighted[:, 1] > 0
        factor = torch.where(has_factor, weighted[:, 0] / weighted[:, 1].clamp(min=_TINY), 0.0)

        newest = torch.arange(time, device=deviation.device) + config.season
        index = (newest[:, None] - self.phase).reshape(-1)
        phases = factor.index_select(1, index).reshape(batch, time, config.season)
        phases = phases - phases.mean(-1, keepdim=True)

        first = config.num_cycles * config.season
        now, expected = deviation[:, first:], factor[:, : -config.season]
        counts = has_deviation[:, first:] * has_factor[:, : -config.season] * axis.live
        errors = torch.stack([(now - expected) * counts, now * counts], -1).double().square()
        return phases, errors

    def _deviations(self, axis: _Axis) -> tuple[Tensor, Tensor]:
        season, half = self.config.season, self.config.season // 2
        spare = self.config.tail_length - 2 * half - self.config.num_cycles * season
        values, observed = axis.transformed[:, spare:], axis.observed[:, spare:]
        sums = torch.stack([values, observed.double()], 1).cumsum(2)
        sums = torch.cat([torch.zeros_like(sums[..., :1]), sums], 2)  # (batch, 2, 1 + length)
        if season % 2:
            moving = sums[..., season:] - sums[..., :-season]
        else:
            whole = sums[..., season:] - sums[..., :-season]
            moving = (whole[..., :-1] + whole[..., 1:]) / 2
        average = moving[:, 0] / moving[:, 1].clamp(min=1)
        enough = moving[:, 1] >= _LEAST_OBSERVED_SHARE * season
        centre = slice(half, -half)
        has_deviation = (enough & observed[:, centre]).float()
        deviation = (values[:, centre] - average).float() * has_deviation
        return deviation, has_deviation

    def _strength(self, running: Tensor) -> Tensor:
        error, deviation = running[..., SUM_ERROR:SUM_DEVIATION], running[..., SUM_DEVIATION:]
        explained = 1 - error / deviation.clamp(min=_TINY)
        return torch.where(deviation > 0, explained, 0.0).clamp(0, 1).float()

    def _level(self, adjusted: Tensor, lag_observed: Tensor, running: Tensor) -> Tensor:
        newest = (lag_observed * self.newest_first).argmax(-1, keepdim=True)
        mean = running[..., SUM_LEVEL : SUM_LEVEL + 1] / running[..., COUNT : COUNT + 1].clamp(
            min=1
        )
        has_any = lag_observed.sum(-1, keepdim=True) > 0
        return torch.where(has_any, adjusted.gather(-1, newest), mean)

    def _scale(self, running: Tensor) -> Tensor:
        if self.config.transform == "log":
            return torch.ones_like(running[..., :1]).float()
        step = running[..., SUM_STEP : SUM_STEP + 1] / running[
            ..., COUNT_STEP : COUNT_STEP + 1
        ].clamp(min=1)
        size = running[..., :1] / running[..., COUNT : COUNT + 1].clamp(min=1)
        return torch.maximum(step, 1e-3 * size).clamp(min=1e-6).float()

    def _extras(
        self, axis: _Axis, window: Tensor, lag_observed: Tensor, running: Tensor, scale: Tensor
    ) -> Tensor:
        first, season = self.config.tail_length, self.config.season
        value, before = axis.transformed[:, first:], axis.transformed[:, first - season : -season]
        both = (axis.observed[:, first:] & axis.observed[:, first - season : -season]).float()
        change = (value - before).float().unsqueeze(-1) / scale * both.unsqueeze(-1)
        share = lag_observed.mean(-1, keepdim=True)
        spread = (window.square().mean(-1, keepdim=True) / share.clamp(min=1e-3)).sqrt()
        age = torch.log1p((running[..., COUNT : COUNT + 1] - 1).clamp(min=0)).float() / 5
        change = change.clamp(-_LARGEST_FEATURE, _LARGEST_FEATURE)
        return torch.cat([change, spread, share, age, lag_observed[..., :1]], -1)


NUM_EXTRAS = 6
"""Features beside the window and the season ahead: the season's strength and ``_extras``."""
