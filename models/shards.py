"""One process's rows of a batch, and random numbers that do not depend on how many share it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

_Row = TypeVar("_Row")


@dataclass(frozen=True, slots=True)
class Shard:
    """Every ``count``-th row of a batch, from row ``rank`` on: no row twice, none left out."""

    rank: int = 0
    count: int = 1

    @property
    def rows(self) -> slice:
        """The rows, as an index."""
        return slice(self.rank, None, self.count)

    def pick(self, rows: Sequence[_Row]) -> Sequence[_Row]:
        """Return those of ``rows`` that belong to this process."""
        return rows[self.rows]


WHOLE = Shard()

_drawing: ContextVar[tuple[Shard, int]] = ContextVar("drawing", default=(WHOLE, 0))


@contextmanager
def drawing(shard: Shard, num_rows: int) -> Iterator[None]:
    """Let ``draw_like`` draw for ``num_rows`` rows, of which this process has ``shard``."""
    token = _drawing.set((shard, num_rows))
    try:
        yield
    finally:
        _drawing.reset(token)


def draw_like(values: Tensor, draw: Callable[[Tensor], Tensor], *, axis: int = 0) -> Tensor:
    """Draw random numbers for the whole batch, and keep those of this process.

    All processes draw alike from equal generators, so a row meets the same numbers whichever
    process has it.

    Args:
        values: The rows of this process.
        draw: Makes random numbers of the shape, type and device of what it is given.
        axis: That of the rows.

    Returns:
        Random numbers of the shape of ``values``.
    """
    shard, num_rows = _drawing.get()
    if shard.count == 1:
        return draw(values)
    shape = [*values.shape[:axis], num_rows, *values.shape[axis + 1 :]]
    whole = draw(values.detach().new_empty(shape))
    return whole[(slice(None),) * axis + (shard.rows,)]


class RowDropout(nn.Dropout):
    """Dropout of ``(time, batch, ...)`` that is the same however the batch is shared."""

    @override
    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0 or _drawing.get()[0].count == 1:
            return super().forward(input)
        return input * draw_like(input, self._draw_mask, axis=1)

    def _draw_mask(self, values: Tensor) -> Tensor:
        return functional.dropout(torch.ones_like(values), self.p, training=True)
