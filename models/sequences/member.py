"""One member of a network: recurrent layers, pooling over valid steps, one linear answer."""

import torch
from torch import Tensor, nn
from typing_extensions import override

from models.network import pick
from models.recurrent import RecurrentLayer, num_states
from models.sequences.config import SequenceConfig


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


class SequenceMember(nn.Module):
    """Answers sequences of scaled numbers with logits, or with standardised numbers."""

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

    @override
    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Map ``(time, batch, num_inputs)`` to ``(batch, num_outputs)``.

        To tag, to ``(batch, time, num_outputs)``.
        """
        encoded = inputs  # (time, batch, num_inputs)
        for number, layer in enumerate(self.layers):
            outputs, _ = layer(encoded, lengths, self._zero_state(lengths))
            encoded = outputs if number == 0 else encoded + outputs
            encoded = self.dropout(encoded)
        # (batch, time, size) to tag, else (batch, size)
        pooled = self.pool(encoded, lengths) if self.pool else encoded.transpose(0, 1)
        scores: Tensor = self.answer(pooled)
        return scores

    def _zero_state(self, lengths: Tensor) -> tuple[Tensor, ...]:
        directions = 2 if self.config.is_bidirectional else 1
        shape = (directions, lengths.shape[0], self.config.hidden_size)  # len() would fix the size
        return (torch.zeros(shape, device=lengths.device),) * num_states(self.config.cell)
