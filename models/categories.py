"""Embeddings of categorical static covariates, each with a row for what training did not see.

A category comes as a number that counts the known texts from 1; 0, NaN and anything else stand for
an unknown one. Its row is learned by hiding categories at random: what a network knows of a series
whose category it does not know.
"""

import torch
from torch import Tensor, nn
from typing_extensions import override

from models.shards import draw_like

_HIDDEN_SHARE = 0.15
_LARGEST_SIZE = 16
_SIZE_EXPONENT = 0.56


class CategoryEmbeddings(nn.Module):
    """One table a categorical covariate, of ``1 + num_known`` rows."""

    def __init__(self, num_known: tuple[int, ...]) -> None:
        super().__init__()
        self.tables = nn.ModuleList(
            nn.Embedding(1 + count, embedding_size(count)) for count in num_known
        )

    @property
    def size(self) -> int:
        """Numbers that all covariates together become."""
        return sum(int(table.embedding_dim) for table in self._list_tables())

    @override
    def forward(self, categories: Tensor) -> Tensor:
        """Look up ``(batch, num_categories)``, float32, as ``(batch, size)``."""
        parts: list[Tensor] = []
        for column, table in enumerate(self._list_tables()):
            place = categories[:, column].round()
            is_known = (place >= 1) & (place < table.num_embeddings)  # never where it is NaN
            if self.training:
                is_known = is_known & (draw_like(place, torch.rand_like) >= _HIDDEN_SHARE)
            parts.append(table(torch.where(is_known, place, 0.0).long()))
        return torch.cat(parts, -1)

    def _list_tables(self) -> list[nn.Embedding]:
        return [table for table in self.tables if isinstance(table, nn.Embedding)]


def embedding_size(num_known: int) -> int:
    """Return how many numbers stand for one of ``num_known`` categories; a common rule of thumb."""
    return min(_LARGEST_SIZE, round(float(1.6 * (1 + num_known) ** _SIZE_EXPONENT)))
