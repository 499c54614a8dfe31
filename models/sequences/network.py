"""The network: scaled features, members that answer each for itself, and their mean."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from models.sequences.config import SequenceConfig
from models.sequences.member import SequenceMember

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
        self.members = nn.ModuleList(SequenceMember(config) for _ in range(config.num_members))
        num_features, num_targets = len(config.features), len(config.targets)
        self.register_buffer("centre", torch.zeros(num_features))
        self.register_buffer("unit", torch.ones(num_features))
        self.register_buffer("is_heavy", torch.zeros(num_features, dtype=torch.bool))
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("std", torch.ones(num_features))
        self.register_buffer("target_mean", torch.zeros(num_targets))
        self.register_buffer("target_std", torch.ones(num_targets))
        self.register_buffer("temperature", torch.ones(()))

    def list_members(self) -> list[SequenceMember]:
        """Return the members as what they are."""
        return [member for member in self.members if isinstance(member, SequenceMember)]

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
        """Return the mean over the members of ``score_members``."""
        return self.score_members(inputs).mean(0)

    def score_members(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return logits, or standardised numbers, of each member.

        In training, each member reads with noise of its own.

        Args:
            inputs: As in ``forward``.

        Returns:
            ``(num_members, ...)``, the rest shaped as in ``forward``.
        """
        scaled, lengths = self._scale(inputs["sequence"]), inputs["sequence_lens"]
        if not self.training:
            read = self._fill(scaled)
            return torch.stack([member(read, lengths) for member in self.members])
        noisy = [self._fill(self._disturb(scaled)) for _ in self.members]
        pairs = zip(self.members, noisy, strict=True)
        return torch.stack([member(read, lengths) for member, read in pairs])

    def _scale(self, sequence: Tensor) -> Tensor:
        """Return scaled features ``(batch, time, num_features)``, NaN where missing."""
        ratio = (sequence - self.centre) / self.unit
        squeezed = ratio.sign() * (1 + ratio.abs()).log()
        scaled = (torch.where(self.is_heavy, squeezed, ratio) - self.mean) / self.std
        return scaled.clamp(-_LARGEST_INPUT, _LARGEST_INPUT)

    def _disturb(self, scaled: Tensor) -> Tensor:
        """Add noise, at each step and to the level of each feature, as other sources would."""
        levels = self.config.level_noise * torch.randn_like(scaled[:, :1])
        return scaled + levels + self.config.input_noise * torch.randn_like(scaled)

    def _fill(self, scaled: Tensor) -> Tensor:
        """Return what a member reads, time first: zero for gaps, and their indicators."""
        is_missing = scaled.isnan()
        filled = torch.where(is_missing, 0.0, scaled)
        gaps = [number for number, has_gaps in enumerate(self.config.has_gaps) if has_gaps]
        indicators = [is_missing[..., number : number + 1].float() for number in gaps]
        read = torch.cat([filled, *indicators], -1) if indicators else filled
        return read.transpose(0, 1)  # (time, batch, num_inputs)


def answer_loss(network: SequenceNetwork, batch: dict[str, Tensor]) -> Tensor:
    """Return the mean loss of a batch of ``stack_examples``.

    The cross-entropy of the true classes, without the temperature, over sequences or over tagged
    steps; the squared error of standardised targets where the task is to regress. In training it is
    the mean of the members' own losses: each learns to answer alone, and their mean errs less.
    """
    if not network.training:
        return _loss(network, network.score(batch), batch["answer"])
    losses = [_loss(network, scores, batch["answer"]) for scores in network.score_members(batch)]
    return torch.stack(losses).mean()


def _loss(network: SequenceNetwork, scores: Tensor, answer: Tensor) -> Tensor:
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
