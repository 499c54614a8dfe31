"""One recurrent layer, LSTM or GRU, over right-padded sequences with its state in and out."""

from typing import Literal

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from typing_extensions import override

Cell = Literal["lstm", "gru"]

State = tuple[Tensor, ...]
"""Hidden state and, of an LSTM, cell state, each ``(num_directions, batch, hidden_size)``."""


class RecurrentLayer(nn.Module):
    """An ``nn.LSTM`` or ``nn.GRU`` of one layer, time on axis 0 as the ONNX operators have it.

    A bidirectional one also reads each row from its last valid step to its first.

    The exporter puts a twin with the same ``forward`` in its place, which becomes one ONNX node.
    """

    def __init__(
        self, cell: Cell, input_size: int, hidden_size: int, *, is_bidirectional: bool = False
    ) -> None:
        super().__init__()
        self.cell: Cell = cell
        self.num_directions = 2 if is_bidirectional else 1
        kind = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.rnn = kind(input_size, hidden_size, bidirectional=is_bidirectional)

    @override
    def forward(
        self, inputs: Tensor, sequence_lens: Tensor | None, state: State
    ) -> tuple[Tensor, State]:
        """Run over ``inputs`` of shape ``(time, batch, input_size)``.

        Args:
            inputs: Right-padded sequences.
            sequence_lens: Valid steps of each row, at least 1; None takes every step as valid,
                which is faster where the final state does not matter.
            state: The state before the first step.

        Returns:
            Outputs of shape ``(time, batch, num_directions * hidden_size)``, zero past each row's
            length, and the state after each row's last valid step; backwards, after its first.
        """
        first = tuple(part.contiguous() for part in state)
        initial = first if self.cell == "lstm" else first[0]
        if sequence_lens is None:
            outputs, last = self.rnn(inputs, initial)
        else:
            packed = pack_padded_sequence(inputs, sequence_lens.cpu(), enforce_sorted=False)
            packed_outputs, last = self.rnn(packed, initial)
            outputs, _ = pad_packed_sequence(packed_outputs, total_length=len(inputs))
        return outputs, last if self.cell == "lstm" else (last,)


def num_states(cell: Cell) -> int:
    """Return how many state tensors a layer carries: a GRU one, an LSTM two."""
    return 2 if cell == "lstm" else 1
