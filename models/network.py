"""The forecaster: causal features, residual recurrent layers and a quantile head.

It takes raw numbers and gives final ones.
Every step forecasts its whole horizon (direct multi-horizon, forked as in Wen et al. 2017, A
Multi-Horizon Quantile Recurrent Forecaster, arXiv 1711.11053); a service reads only the last step.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from models.config import NetworkConfig
from models.features import NUM_EXTRAS, NUM_SUMS, CausalFeatures, Features
from models.recurrent import RecurrentLayer, State, num_states

_LARGEST_COVARIATE = 10.0


class StepForecasts(NamedTuple):
    """Forecasts from many steps, the origins, on the network's own axis, for the loss."""

    quantiles: Tensor
    """``(batch, num_origins, horizon, num_quantiles)``, in units of ``scale`` from ``base``"""
    base: Tensor
    """``(batch, num_origins, horizon)``, transformed axis, float64"""
    scale: Tensor
    """``(batch, num_origins)``"""
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


class Forecaster(nn.Module):
    """Raw values and carried state in; quantiles in the target's units and the next state out."""

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
        num_future, num_past = len(config.future_covariates), len(config.past_covariates)
        num_covariates = (
            num_past + num_future * (1 + config.horizon) + len(config.static_covariates)
        )
        num_features = config.window + config.horizon + NUM_EXTRAS + num_covariates
        self.projection = nn.Linear(num_features, config.hidden_size)
        self.layers = nn.ModuleList(
            RecurrentLayer(config.cell, config.hidden_size, config.hidden_size)
            for _ in range(config.num_layers)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.head = QuantileHead(config.hidden_size + num_features, config)
        for kind in ("past", "future", "static"):
            count = len(getattr(config, f"{kind}_covariates"))
            self.register_buffer(f"{kind}_mean", torch.zeros(count))
            self.register_buffer(f"{kind}_std", torch.ones(count))

    @override
    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Forecast from the last step of each row.

        Args:
            inputs: ``past_target`` ``(batch, time)``, NaN where missing; ``sequence_lens``
                ``(batch,)`` int32, at least 1; the states ``recent_target``
                ``(batch, tail_length)``, ``running_sums`` ``(batch, NUM_SUMS)`` float64,
                ``hidden_state`` and, for an LSTM, ``cell_state``
                ``(batch, num_layers, hidden_size)``; and, where the model has them,
                ``past_covariates`` ``(batch, time, num_past)``, ``future_covariates``
                ``(batch, time + horizon, num_future)``, whose step 0 is that of ``past_target``,
                and ``static_covariates`` ``(batch, num_static)``, NaN where missing.

        Returns:
            ``quantiles`` ``(batch, horizon, num_quantiles)``, ascending, and each state under
            ``next_...``.
        """
        lengths = inputs["sequence_lens"]
        features, values = self._read(inputs)
        encoded, states = self._encode(values, lengths, self._layer_states(inputs))
        batch, time = values.shape[:2]
        rows, last = torch.arange(batch, device=values.device), lengths - 1
        place = rows * time + last
        encoded_last = _pick(encoded, last * batch + rows)
        quantiles = self.head(torch.cat([encoded_last, _pick(values, place)], -1)).double()
        if self.config.transform == "identity":  # on a log axis the unit is one
            quantiles = quantiles * _pick(features.scale, place)[:, None, None].double()
        origin = _pick(features.level, place)[:, None] + _pick(features.season, place).double()
        outputs = {"quantiles": self.features.restore(origin.unsqueeze(-1) + quantiles)}
        outputs["next_recent_target"] = self._tail(features.recent_target, lengths)
        outputs["next_running_sums"] = _pick(features.sums, place)
        for name, parts in zip(
            ("hidden_state", "cell_state"), zip(*states, strict=True), strict=False
        ):
            outputs[f"next_{name}"] = torch.cat(parts).transpose(0, 1)
        return outputs

    def forecast_steps(self, inputs: dict[str, Tensor], origins: Tensor) -> StepForecasts:
        """Forecast from many steps of each series at once, all in one pass.

        Args:
            inputs: As in ``forward``, without states: the series begin here.
            origins: Steps to forecast from ``(batch, num_origins)``, int64.
        """
        batch = len(inputs["past_target"])
        with torch.no_grad():
            features, values = self._read(inputs | self.initial_state(batch))
            if self.training and self.config.input_noise:
                noise = torch.randn_like(values[..., : self.config.window])
                values[..., : self.config.window] += self.config.input_noise * noise
        zero = self._layer_states(self.initial_state(batch))
        encoded, _ = self._encode(values, None, zero)
        level = features.level.gather(1, origins)
        season = _at_steps(features.season, origins)
        rows = torch.cat([encoded.transpose(0, 1), values], -1)
        return StepForecasts(
            quantiles=self.head(_at_steps(rows, origins)),
            base=level.unsqueeze(-1) + season.double(),
            scale=features.scale.gather(1, origins),
            transformed=features.transformed,
            observed=features.observed,
        )

    def initial_state(self, batch: int) -> dict[str, Tensor]:
        """Return the state of ``batch`` series that have not begun."""
        config, device = self.config, self.projection.weight.device
        shape = (batch, config.num_layers, config.hidden_size)
        names = ("hidden_state", "cell_state")[: num_states(config.cell)]
        return {
            "recent_target": torch.full((batch, config.tail_length), torch.nan, device=device),
            "running_sums": torch.zeros((batch, NUM_SUMS), dtype=torch.float64, device=device),
        } | {name: torch.zeros(shape, device=device) for name in names}

    def _read(self, inputs: dict[str, Tensor]) -> tuple[Features, Tensor]:
        features = self.features(
            inputs["past_target"],
            inputs["sequence_lens"],
            inputs["recent_target"],
            inputs["running_sums"],
        )
        parts = [features.inputs, *self._covariates(inputs)]
        return features, torch.cat(parts, -1)  # (batch, time, num_features)

    def _covariates(self, inputs: dict[str, Tensor]) -> list[Tensor]:
        parts: list[Tensor] = []
        batch, time = inputs["past_target"].shape
        if self.config.past_covariates:
            parts.append(_standardise(inputs["past_covariates"], self.past_mean, self.past_std))
        if self.config.future_covariates:
            known = _standardise(inputs["future_covariates"], self.future_mean, self.future_std)
            ahead = torch.arange(self.config.horizon + 1, device=known.device)
            steps = torch.arange(time, device=known.device)
            parts.append(known[:, steps[:, None] + ahead].flatten(2))
        if self.config.static_covariates:
            static = _standardise(inputs["static_covariates"], self.static_mean, self.static_std)
            parts.append(static.unsqueeze(1).expand(batch, time, static.shape[-1]))
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

    def _layer_states(self, inputs: dict[str, Tensor]) -> list[State]:
        names = ("hidden_state", "cell_state")[: num_states(self.config.cell)]
        parts = [torch.split(inputs[name].transpose(0, 1), 1) for name in names]
        return list(zip(*parts, strict=True))

    def _tail(self, recent_target: Tensor, lengths: Tensor) -> Tensor:
        positions = torch.arange(self.config.tail_length, device=lengths.device)
        return recent_target.gather(1, lengths.long()[:, None] + positions)


def _pick(values: Tensor, places: Tensor) -> Tensor:
    """Pick ``places`` of the first two axes of ``values``, counted through both."""
    return values.flatten(0, 1)[places]


def _at_steps(values: Tensor, steps: Tensor) -> Tensor:
    """Pick steps ``(batch, count)`` of each row of ``(batch, time, size)``."""
    return values.gather(1, steps.unsqueeze(-1).expand(-1, -1, values.shape[-1]))


def _standardise(values: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    scaled = ((values - mean) / std).clamp(-_LARGEST_COVARIATE, _LARGEST_COVARIATE)
    return torch.where(values.isnan(), 0.0, scaled)
