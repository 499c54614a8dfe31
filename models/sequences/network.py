"""The network: scaled features, recurrent layers, pooling over valid steps, one linear answer."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from models.network import pick
from models.recurrent import RecurrentLayer, num_states
from models.sequences.config import SequenceConfig

_LARGEST_INPUT = 10.0


class Scaling(NamedTuple):
    """How raw numbers become inputs, and outputs raw numbers; each of one row per column.

    A feature ``x`` becomes ``u = (x - centre) / unit``, where it has ``is_heavy`` tails
    ``sign(u) * log(1 + |u|)``, and then ``(u - mean) / std``.
    """

    centre: Tensor
    unit: Tensor
    is_heavy: Tensor
    mean: Tensor
    std: Tensor
    target_mean: Tensor
    target_std: Tensor


class Pool(nn.Module):
    """Makes one vector of the steps of each row, of the valid ones alone."""

    def __init__(self, config: SequenceConfig, size: int) -> None:
        super().__init__()
        self.kind = config.pooling
        self.hidden_size = config.hidden_size
        if self.kind == "attention":
            self.hidden = nn.Linear(size, config.hidden_size)
            self.score = nn.Linear(config.hidden_size, 1, bias=False)

    @override
    def forward(self, encoded: Tensor, lengths: Tensor) -> Tensor:
        """Map ``(time, batch, size)`` to ``(batch, size)``.

        The weights of attention are a softmax of ``score(tanh(hidden(step)))`` (Yang et al. 2016,
        Hierarchical Attention Networks for Document Classification, equations 5 to 7).
        """
        time, batch = encoded.shape[:2]
        steps = torch.arange(time, device=encoded.device)
        is_valid = (steps[:, None] < lengths).unsqueeze(-1)  # (time, batch, 1)
        if self.kind == "last":
            rows = torch.arange(batch, device=encoded.device)
            last = pick(encoded[..., : self.hidden_size], (lengths - 1) * batch + rows)
            return torch.cat([last, encoded[0, :, self.hidden_size :]], -1)
        if self.kind == "max":
            return encoded.masked_fill(~is_valid, -torch.inf).amax(0)
        if self.kind == "mean":
            return torch.where(is_valid, encoded, 0.0).sum(0) / lengths.unsqueeze(-1)
        scores: Tensor = self.score(self.hidden(encoded).tanh())
        scores = scores.masked_fill(~is_valid, -torch.inf)
        return (scores.softmax(0) * encoded).sum(0)


class SequenceNetwork(nn.Module):
    """Classifies, regresses or tags sequences of different lengths; raw numbers in, answers out."""

    centre: Tensor
    unit: Tensor
    is_heavy: Tensor
    mean: Tensor
    std: Tensor
    target_mean: Tensor
    target_std: Tensor
    temperature: Tensor

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__()
        self.config = config
        directions = 2 if config.is_bidirectional else 1
        size = directions * config.hidden_size
        self.layers = nn.ModuleList(
            RecurrentLayer(
                config.cell,
                config.num_inputs if number == 0 else size,
                config.hidden_size,
                is_bidirectional=config.is_bidirectional,
            )
            for number in range(config.num_layers)
        )
        self.pool = Pool(config, size) if config.pooling else None
        self.dropout = nn.Dropout(config.dropout)
        self.answer = nn.Linear(size, config.num_outputs)
        num_features, num_targets = len(config.features), len(config.targets)
        self.register_buffer("centre", torch.zeros(num_features))
        self.register_buffer("unit", torch.ones(num_features))
        self.register_buffer("is_heavy", torch.zeros(num_features, dtype=torch.bool))
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("std", torch.ones(num_features))
        self.register_buffer("target_mean", torch.zeros(num_targets))
        self.register_buffer("target_std", torch.ones(num_targets))
        self.register_buffer("temperature", torch.ones(()))

    def set_scaling(self, scaling: Scaling) -> None:
        """Take over what ``models.sequences.scaling`` found in the training data."""
        for name, value in scaling._asdict().items():
            getattr(self, name).copy_(value)

    @override
    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Answer.

        Args:
            inputs: ``sequence`` ``(batch, time, num_features)``, right-padded, NaN where missing,
                and ``sequence_lens`` ``(batch,)``, int32, at least 1.

        Returns:
            ``values`` ``(batch, num_targets)`` in their own units, or ``probabilities`` ``(batch,
            num_classes)``, to tag ``(batch, time, num_classes)``.
        """
        raw = self.score(inputs)
        if self.config.task == "regress":
            return {"values": raw * self.target_std + self.target_mean}
        return {"probabilities": (raw / self.temperature).softmax(-1)}

    def score(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return logits, or standardised numbers, of shape and for inputs as in ``forward``."""
        lengths = inputs["sequence_lens"]
        encoded = self._scale(inputs["sequence"]).transpose(0, 1)  # (time, batch, num_inputs)
        for number, layer in enumerate(self.layers):
            outputs, _ = layer(encoded, lengths, self._zero_state(lengths))
            encoded = outputs if number == 0 else encoded + outputs
            encoded = self.dropout(encoded)
        # (batch, time, size) to tag, else (batch, size)
        pooled = self.pool(encoded, lengths) if self.pool else encoded.transpose(0, 1)
        scores: Tensor = self.answer(pooled)
        return scores

    def _scale(self, sequence: Tensor) -> Tensor:
        is_missing = sequence.isnan()
        ratio = (sequence - self.centre) / self.unit
        squeezed = ratio.sign() * (1 + ratio.abs()).log()
        scaled = (torch.where(self.is_heavy, squeezed, ratio) - self.mean) / self.std
        scaled = scaled.clamp(-_LARGEST_INPUT, _LARGEST_INPUT)
        if self.training and self.config.input_noise:
            scaled = scaled + self.config.input_noise * torch.randn_like(scaled)
        scaled = torch.where(is_missing, 0.0, scaled)
        gaps = [number for number, has_gaps in enumerate(self.config.has_gaps) if has_gaps]
        indicators = [is_missing[..., number : number + 1].float() for number in gaps]
        return torch.cat([scaled, *indicators], -1) if indicators else scaled

    def _zero_state(self, lengths: Tensor) -> tuple[Tensor, ...]:
        directions = 2 if self.config.is_bidirectional else 1
        shape = (directions, lengths.shape[0], self.config.hidden_size)  # len() would fix the size
        return (torch.zeros(shape, device=lengths.device),) * num_states(self.config.cell)


def answer_loss(network: SequenceNetwork, batch: dict[str, Tensor]) -> Tensor:
    """Return the mean loss of a batch of ``stack_examples``.

    The cross-entropy of the true classes, without the temperature, over sequences or over tagged
    steps; the squared error of standardised targets where the task is to regress.
    """
    scores, answer = network.score(batch), batch["answer"]
    if network.config.task == "regress":
        wanted = (answer - network.target_mean.double()) / network.target_std.double()
        return functional.mse_loss(scores, wanted.float())
    return cross_entropy(scores, answer)


def cross_entropy(logits: Tensor, answer: Tensor) -> Tensor:
    """Return the mean cross-entropy; classes ``IGNORED`` do not count, and none at all gives 0."""
    flat, wanted = logits.flatten(0, -2), answer.flatten()
    is_known = wanted >= 0
    losses = functional.cross_entropy(flat, wanted.clamp(min=0), reduction="none")
    return torch.where(is_known, losses, 0.0).sum() / is_known.sum().clamp(min=1)
