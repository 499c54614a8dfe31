"""One network of a forecaster: causal features, residual recurrent layers and a quantile head.

Every step forecasts its whole horizon (direct multi-horizon, forked as in Wen et al. 2017, A
Multi-Horizon Quantile Recurrent Forecaster, arXiv 1711.11053); a service reads only the last step.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from models.categories import CategoryEmbeddings
from models.config import NetworkConfig
from models.features import NUM_EXTRAS, CausalFeatures, Features
from models.recurrent import RecurrentLayer, State, num_states
from models.shards import RowDropout, draw_like

_LARGEST_COVARIATE = 10.0
_LARGEST_EXCESS = 2.0  # a factor of seven beyond the window


class StepForecasts(NamedTuple):
    """Forecasts from many steps, the origins, on the network's own axis, for the loss."""

    quantiles: Tensor
    """``(batch, num_origins, horizon, num_quantiles)``, in units of ``scale`` from ``base``"""
    base: Tensor
    """``(batch, num_origins, horizon)``, transformed axis, float64"""
    scale: Tensor
    """``(batch, num_origins)``"""
    floor: Tensor
    """``(batch, num_origins)``, that of ``Features``"""
    transformed: Tensor
    """``(batch, time)``, the target on the transformed axis, zero where missing, float64"""
    observed: Tensor
    """``(batch, time)``"""


class QuantileHead(nn.Module):
    """Quantiles that can not cross: a median and positive steps away from it."""

    def __init__(self, input_size: int, config: NetworkConfig) -> None:
        super().__init__()
        self.horizon, self.num_quantiles = config.horizon, len(config.quantile_levels)
        distance = [abs(level - 0.5) for level in config.quantile_levels]
        self.median = distance.index(min(distance))
        self.hidden = nn.Linear(input_size, config.hidden_size)
        self.outputs = nn.Linear(config.hidden_size, config.horizon * self.num_quantiles)
        nn.init.normal_(self.outputs.weight, std=1e-3)
        bias = torch.full((config.horizon, self.num_quantiles), -3.0)
        bias[:, 0] = 0.0
        self.outputs.bias = nn.Parameter(bias.flatten())

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``(..., input_size)`` to ascending quantiles ``(..., horizon, num_quantiles)``."""
        raw: Tensor = self.outputs(functional.gelu(self.hidden(inputs)))
        raw = torch.unflatten(raw, -1, (self.horizon, self.num_quantiles))
        steps = functional.softplus(raw[..., 1:]).cumsum(-1)
        ascending = functional.pad(steps, (1, 0))
        return ascending - ascending[..., self.median, None] + raw[..., :1]


class Member(nn.Module):
    """A network on one axis; ``models.forecaster`` makes a forecaster of several."""

    past_mean: Tensor
    past_std: Tensor
    future_mean: Tensor
    future_std: Tensor
    static_mean: Tensor
    static_std: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.features = CausalFeatures(config)
        self.categories = CategoryEmbeddings(tuple(map(len, config.static_categories)))
        counts = {
            "past": len(config.past_covariates),
            "future": config.num_future,
            "static": config.num_static_numbers,
        }
        num_covariates = counts["past"] + counts["future"] * (1 + config.horizon) + counts["static"]
        num_features = config.window + config.horizon + NUM_EXTRAS + num_covariates
        num_features += self.categories.size
        self.projection = nn.Linear(num_features, config.hidden_size)
        self.layers = nn.ModuleList(
            RecurrentLayer(config.cell, config.hidden_size, config.hidden_size)
            for _ in range(config.num_layers)
        )
        self.dropout = RowDropout(config.dropout)
        self.head = QuantileHead(config.hidden_size + num_features, config)
        for kind, count in counts.items():
            self.register_buffer(f"{kind}_mean", torch.zeros(count))
            self.register_buffer(f"{kind}_std", torch.ones(count))

    @override
    def forward(
        self, features: Features, values: Tensor, lengths: Tensor, states: list[State]
    ) -> tuple[Tensor, list[State]]:
        """Forecast from the last step of each row.

        Args:
            features: What ``read`` returned.
            values: What it returned with them, after ``add_categories``.
            lengths: Valid steps of each row ``(batch,)``, int32, at least 1.
            states: Of each layer, before the first step.

        Returns:
            Quantiles ``(batch, horizon, num_quantiles)`` in the target's units, ascending, float64,
            and the state of each layer after the last step.
        """
        encoded, next_states = self._encode(values, lengths, states)
        batch, time = values.shape[:2]
        rows, last = torch.arange(batch, device=values.device), lengths - 1
        place = rows * time + last
        encoded_last = pick(encoded, last * batch + rows)
        anchor = pick(features.anchor, place)
        quantiles = self._quantiles(encoded_last, pick(values, place), anchor).double()
        if self.config.transform == "identity":  # on a log axis the unit is one
            quantiles = quantiles * pick(features.scale, place)[:, None, None].double()
        origin = pick(features.level, place)[:, None] + pick(features.season, place).double()
        floor = pick(features.floor, place)[:, None, None]
        return self.features.restore(origin.unsqueeze(-1) + quantiles, floor), next_states

    def forecast_steps(self, inputs: dict[str, Tensor], origins: Tensor) -> StepForecasts:
        """Forecast from many steps of each series at once, all in one pass.

        Args:
            inputs: As in ``Forecaster.forward``, without states: the series begin here.
            origins: Steps to forecast from ``(batch, num_origins)``, int64.
        """
        batch = len(inputs["past_target"])
        with torch.no_grad():
            features, values = self.read(inputs | self.features.initial_state(batch))
            if self.training and self.config.input_noise:
                noise = draw_like(values[..., : self.config.window], torch.randn_like)
                values[..., : self.config.window] += self.config.input_noise * noise
        values = self.add_categories(values, inputs)
        encoded, _ = self._encode(values, None, self._zero_states(batch))
        level = features.level.gather(1, origins)
        season = _at_steps(features.season, origins)
        return StepForecasts(
            quantiles=self._quantiles(
                _at_steps(encoded.transpose(0, 1), origins),
                _at_steps(values, origins),
                _at_steps(features.anchor, origins),
            ),
            base=level.unsqueeze(-1) + season.double(),
            scale=features.scale.gather(1, origins),
            floor=features.floor.gather(1, origins),
            transformed=features.transformed,
            observed=features.observed,
        )

    def read(self, inputs: dict[str, Tensor]) -> tuple[Features, Tensor]:
        """Compute what every step sees ``(batch, time, ...)``, categories apart; not learned.

        Args:
            inputs: As in ``Forecaster.forward``, with the states of one axis.
        """
        features: Features = self.features(
            inputs["past_target"],
            inputs["sequence_lens"],
            inputs["recent_target"],
            inputs["running_sums"],
        )
        parts = [features.inputs, *self._covariates(inputs)]
        return features, torch.cat(parts, -1)

    def add_categories(self, values: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """Append the embeddings of the series' categories, which each member learns for itself.

        Args:
            values: What ``read`` returned ``(batch, time, ...)``.
            inputs: As in ``Forecaster.forward``.

        Returns: ``(batch, time, num_features)``.
        """
        if not self.config.static_categories:
            return values
        codes = inputs["static_covariates"][:, self.config.num_static_numbers :]
        embedded: Tensor = self.categories(codes)
        return torch.cat([values, _at_every_step(embedded, values)], -1)

    def _covariates(self, inputs: dict[str, Tensor]) -> list[Tensor]:
        parts: list[Tensor] = []
        time = inputs["past_target"].shape[1]
        if self.config.past_covariates:
            parts.append(_standardise(inputs["past_covariates"], self.past_mean, self.past_std))
        if self.config.num_future:
            known = _standardise(inputs["future_covariates"], self.future_mean, self.future_std)
            ahead = torch.arange(self.config.horizon + 1, device=known.device)
            steps = torch.arange(time, device=known.device)
            parts.append(known[:, steps[:, None] + ahead].flatten(2))
        if self.config.num_static_numbers:
            numbers = inputs["static_covariates"][:, : self.config.num_static_numbers]
            static = _standardise(numbers, self.static_mean, self.static_std)
            parts.append(_at_every_step(static, inputs["past_target"]))
        return parts

    def _encode(
        self, values: Tensor, lengths: Tensor | None, states: list[State]
    ) -> tuple[Tensor, list[State]]:
        encoded = self.projection(values).transpose(0, 1)  # (time, batch, hidden_size)
        final = []
        for layer, state in zip(self.layers, states, strict=True):
            outputs, next_state = layer(encoded, lengths, state)
            encoded = encoded + self.dropout(outputs)
            final.append(next_state)
        return encoded, final

    def _quantiles(self, encoded: Tensor, values: Tensor, anchor: Tensor) -> Tensor:
        """Map ``(..., hidden_size)`` and ``(..., num_features)`` to quantiles of ``QuantileHead``.

        Not in training, which would undo it, they are drawn to ``anchor`` ``(..., horizon)``.

        Logarithms are kept near those of the window: after a collapse the like of which training
        never saw, their exponentials would know no bounds.
        """
        quantiles: Tensor = self.head(torch.cat([encoded, values], -1))
        if not self.training:
            quantiles = self._draw_to(anchor, quantiles)
        if self.config.transform != "log":
            return quantiles
        window = values[..., : self.config.window]  # relative to the newest value
        highest = window.amax(-1).clamp(min=0) + _LARGEST_EXCESS
        lowest = window.amin(-1).clamp(max=0) - _LARGEST_EXCESS
        bounded = torch.minimum(quantiles, highest[..., None, None])
        return torch.maximum(bounded, lowest[..., None, None])

    def _draw_to(self, anchor: Tensor, quantiles: Tensor) -> Tensor:
        share, width = self.config.anchor_share, self.config.width
        if share == 0 and width == 1:
            return quantiles
        median = quantiles[..., self.head.median, None]
        drawn = median + share * (anchor.unsqueeze(-1) - median)
        return drawn + width * (quantiles - median)

    def _zero_states(self, batch: int) -> list[State]:
        shape = (1, batch, self.config.hidden_size)
        zero = torch.zeros(shape, device=self.projection.weight.device)
        return [(zero,) * num_states(self.config.cell)] * self.config.num_layers


def pick(values: Tensor, places: Tensor) -> Tensor:
    """Pick ``places`` of the first two axes of ``values``, counted through both."""
    return values.flatten(0, 1)[places]


def _at_every_step(static: Tensor, values: Tensor) -> Tensor:
    """Repeat ``(batch, size)`` at every step of ``values`` ``(batch, time, ...)``."""
    return static.unsqueeze(1).expand(-1, values.shape[1], -1)


def _at_steps(values: Tensor, steps: Tensor) -> Tensor:
    """Pick steps ``(batch, count)`` of each row of ``(batch, time, size)``."""
    return values.gather(1, steps.unsqueeze(-1).expand(-1, -1, values.shape[-1]))


def _standardise(values: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    scaled = ((values - mean) / std).clamp(-_LARGEST_COVARIATE, _LARGEST_COVARIATE)
    return torch.where(values.isnan(), 0.0, scaled)
