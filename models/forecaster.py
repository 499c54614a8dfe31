"""The forecaster: the mean of a few networks, raw numbers in and final ones out.

The members of one axis read the same features, so that another member costs its layers alone. The
mean of quantiles that do not cross does not cross.
"""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from typing_extensions import override

from models.config import NetworkConfig
from models.features import Features
from models.network import Member, pick
from models.recurrent import State, num_states

_STATES = ("hidden_state", "cell_state")


class Forecaster(nn.Module):
    """Raw values and carried state in; quantiles in the target's units and the next state out."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.members = nn.ModuleList(Member(member) for member in config.members)

    @classmethod
    def from_members(cls, config: NetworkConfig, members: Sequence[Member]) -> Self:
        """Join trained members, in the order of ``config.members``."""
        forecaster = cls(config)
        forecaster.members = nn.ModuleList(members)
        return forecaster.eval()

    @override
    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Forecast from the last step of each row.

        Args:
            inputs: ``past_target`` ``(batch, time)``, NaN where missing; ``sequence_lens``
                ``(batch,)`` int32, at least 1; the states ``recent_target``
                ``(batch, num_axes * tail_length)``, ``running_sums``
                ``(batch, num_axes * config.num_sums)`` float64, ``hidden_state`` and, for an LSTM,
                ``cell_state`` ``(batch, num_members * num_layers, hidden_size)``; and, where the
                model has them, ``past_covariates`` ``(batch, time, num_past)``,
                ``future_covariates`` ``(batch, time + horizon, num_future)``, whose step 0 is that
                of ``past_target`` and whose last columns are calendar features, and
                ``static_covariates`` ``(batch, num_static)``, whose last columns are categories;
                NaN where missing.

        Returns:
            ``quantiles`` ``(batch, horizon, num_quantiles)``, ascending, and each state under
            ``next_...``.
        """
        lengths = inputs["sequence_lens"]
        read = self._read(inputs)
        states = self._layer_states(inputs)
        quantiles: list[Tensor] = []
        final: list[State] = []
        for number, member in enumerate(self.list_members()):
            features, values = read[member.config.transform]
            layers = slice(number * self.config.num_layers, (number + 1) * self.config.num_layers)
            values = member.add_categories(values, inputs)
            forecast, next_states = member(features, values, lengths, states[layers])
            quantiles.append(forecast)
            final += next_states
        outputs = {"quantiles": _mean(quantiles).float()}
        outputs |= self._next_features(read, lengths)
        for name, parts in zip(_STATES, zip(*final, strict=True), strict=False):
            outputs[f"next_{name}"] = torch.cat(parts).transpose(0, 1)
        return outputs

    def forecast_origins(self, inputs: dict[str, Tensor], origins: Tensor) -> Tensor:
        """Forecast from many steps of each series, which begin here.

        Args:
            inputs: As in ``forward``, without states.
            origins: Steps to forecast from ``(batch, num_origins)``, int64.

        Returns:
            Quantiles ``(batch, num_origins, horizon, num_quantiles)`` in the target's units.
        """
        quantiles = []
        for member in self.list_members():
            steps = member.forecast_steps(inputs, origins)
            distance = steps.quantiles.double() * steps.scale[..., None, None]
            transformed = distance + steps.base.unsqueeze(-1)
            floor = steps.floor[..., None, None]
            quantiles.append(member.features.restore(transformed, floor))
        return _mean(quantiles)

    def initial_state(self, batch: int) -> dict[str, Tensor]:
        """Return the state of ``batch`` series that have not begun."""
        config = self.config
        of_axis = self._first_on_each_axis()[0].features.initial_state(batch)
        state = {name: value.repeat(1, len(config.axes)) for name, value in of_axis.items()}
        shape = (batch, config.num_members * config.num_layers, config.hidden_size)
        zero = torch.zeros(shape, device=of_axis["recent_target"].device)
        return state | dict.fromkeys(_STATES[: num_states(config.cell)], zero)

    def list_members(self) -> list[Member]:
        """Return the members as what they are."""
        return [member for member in self.members if isinstance(member, Member)]

    def _first_on_each_axis(self) -> list[Member]:
        firsts = {member.config.transform: member for member in reversed(self.list_members())}
        return [firsts[axis] for axis in self.config.axes]

    def _read(self, inputs: dict[str, Tensor]) -> dict[str, tuple[Features, Tensor]]:
        axes = self.config.axes
        recent = inputs["recent_target"].chunk(len(axes), 1)
        sums = inputs["running_sums"].chunk(len(axes), 1)
        return {
            axis: member.read(inputs | {"recent_target": recent[i], "running_sums": sums[i]})
            for i, (axis, member) in enumerate(zip(axes, self._first_on_each_axis(), strict=True))
        }

    def _layer_states(self, inputs: dict[str, Tensor]) -> list[State]:
        names = _STATES[: num_states(self.config.cell)]
        parts = [torch.split(inputs[name].transpose(0, 1), 1) for name in names]
        return list(zip(*parts, strict=True))

    def _next_features(
        self, read: dict[str, tuple[Features, Tensor]], lengths: Tensor
    ) -> dict[str, Tensor]:
        batch, time = next(iter(read.values()))[1].shape[:2]
        last = torch.arange(batch, device=lengths.device) * time + lengths - 1
        positions = torch.arange(self.config.tail_length, device=lengths.device)
        tail = lengths.long()[:, None] + positions
        features = [features for features, _ in read.values()]
        return {
            "next_recent_target": torch.cat([f.recent_target.gather(1, tail) for f in features], 1),
            "next_running_sums": torch.cat([pick(f.sums, last) for f in features], 1),
        }


def _mean(quantiles: list[Tensor]) -> Tensor:
    return quantiles[0] if len(quantiles) == 1 else torch.stack(quantiles).mean(0)
