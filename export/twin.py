"""Stand-ins for recurrent layers that become exactly one ONNX ``LSTM`` or ``GRU`` node each.

The stock exporter has no way to write ``sequence_lens``. A twin calls one custom operator instead,
which computes the ONNX operator's own equations in PyTorch and is translated to that operator as a
whole, its weights already in ONNX's order of gates.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from onnxscript import opset20
from torch import Tensor, nn
from typing_extensions import override

from app.errors import ArtifactError
from models.recurrent import Cell, RecurrentLayer, State

Network = TypeVar("Network", bound=nn.Module)

_GATE_ORDER: dict[Cell, tuple[int, ...]] = {
    "lstm": (0, 3, 1, 2),  # PyTorch input, forget, cell, output -> ONNX input, output, forget, cell
    "gru": (1, 0, 2),  # PyTorch reset, update, new -> ONNX update, reset, hidden
}


class RecurrentTwin(nn.Module):
    """Does what a ``RecurrentLayer`` does, through one operator that the exporter knows.

    Its buffers are the ONNX operator's inputs ``W`` ``(num_directions, num_gates * hidden_size,
    input_size)``, ``R`` ``(num_directions, num_gates * hidden_size, hidden_size)`` and ``B``
    ``(num_directions, 2 * num_gates * hidden_size)``.
    """

    input_weight: Tensor
    recurrent_weight: Tensor
    bias: Tensor

    def __init__(self, layer: RecurrentLayer) -> None:
        super().__init__()
        self.cell: Cell = layer.cell
        self._weights = layer.rnn.state_dict()
        self._suffixes = ("l0", "l0_reverse")[: layer.num_directions]
        self.register_buffer("input_weight", self._reorder("weight_ih"))
        self.register_buffer("recurrent_weight", self._reorder("weight_hh"))
        biases = [self._reorder(name) for name in ("bias_ih", "bias_hh")]
        self.register_buffer("bias", torch.cat(biases, 1))

    def _reorder(self, name: str) -> Tensor:
        """Return the weights of that name, of each direction, their gates in ONNX's order."""
        order = _GATE_ORDER[self.cell]
        directions = []
        for suffix in self._suffixes:
            gates = self._weights[f"{name}_{suffix}"].chunk(len(order), 0)
            directions.append(torch.cat([gates[gate] for gate in order]))
        return torch.stack(directions)

    @override
    def forward(
        self, inputs: Tensor, sequence_lens: Tensor | None, state: State
    ) -> tuple[Tensor, State]:
        """Run over ``inputs`` as ``RecurrentLayer.forward`` does."""
        if sequence_lens is None:
            time, batch = inputs.shape[:2]
            sequence_lens = torch.full((batch,), time, dtype=torch.int32, device=inputs.device)
        run = lstm if self.cell == "lstm" else gru
        outputs, *final = run(
            inputs,
            [self.input_weight, self.recurrent_weight, self.bias],
            sequence_lens.to(torch.int32),
            list(state),
        )
        if len(self._suffixes) == 1:
            return outputs.squeeze(1), tuple(final)
        return torch.cat([outputs[:, 0], outputs[:, 1]], -1), tuple(final)


def to_twin(network: Network) -> Network:
    """Return a copy of ``network`` on the CPU, set to evaluate, its recurrent layers replaced."""
    twin = copy.deepcopy(network).cpu().eval()
    for module in [*twin.modules()]:
        for name, child in [*module.named_children()]:
            if isinstance(child, RecurrentLayer):
                setattr(module, name, RecurrentTwin(child))
    return twin


@torch.library.custom_op("gatecast::lstm", mutates_args=())
def lstm(
    inputs: Tensor, weights: Sequence[Tensor], sequence_lens: Tensor, state: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute ONNX's LSTM.

    Args:
        inputs: ``X`` ``(time, batch, input_size)``.
        weights: ``W``, ``R`` and ``B``.
        sequence_lens: ``(batch,)``, int32.
        state: ``initial_h`` and ``initial_c``, each ``(num_directions, batch, hidden_size)``.

    Returns:
        ``Y`` ``(time, num_directions, batch, hidden_size)``, ``Y_h`` and ``Y_c``.
    """
    outputs, hidden, cell = _run_directions(_run_lstm, inputs, weights, sequence_lens, state)
    return outputs, hidden, cell


def _run_lstm(
    inputs: Tensor, weights: Sequence[Tensor], sequence_lens: Tensor, state: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    hidden, cell = state
    input_bias, recurrent_bias = weights[2].chunk(2)
    outputs = []
    for step, from_input in enumerate(inputs @ weights[0].T + input_bias):
        gates = from_input + hidden @ weights[1].T + recurrent_bias
        input_gate, output_gate, forget_gate, candidate = gates.chunk(4, 1)
        new_cell = forget_gate.sigmoid() * cell + input_gate.sigmoid() * candidate.tanh()
        new_hidden = output_gate.sigmoid() * new_cell.tanh()
        live = (step < sequence_lens)[:, None]
        cell, hidden = torch.where(live, new_cell, cell), torch.where(live, new_hidden, hidden)
        outputs.append(torch.where(live, new_hidden, 0.0))
    return torch.stack(outputs), hidden, cell


@torch.library.custom_op("gatecast::gru", mutates_args=())
def gru(
    inputs: Tensor, weights: Sequence[Tensor], sequence_lens: Tensor, state: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Compute ONNX's GRU with ``linear_before_reset=1``.

    Arguments and results are those of ``lstm``, without its cell state.
    """
    outputs, hidden = _run_directions(_run_gru, inputs, weights, sequence_lens, state)
    return outputs, hidden


def _run_gru(
    inputs: Tensor, weights: Sequence[Tensor], sequence_lens: Tensor, state: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    (hidden,) = state
    input_bias, recurrent_bias = weights[2].chunk(2)
    outputs = []
    for step, from_input in enumerate(inputs @ weights[0].T + input_bias):
        from_hidden = hidden @ weights[1].T + recurrent_bias
        update_input, reset_input, new_input = from_input.chunk(3, 1)
        update_hidden, reset_hidden, new_hidden = from_hidden.chunk(3, 1)
        update_gate = (update_input + update_hidden).sigmoid()
        reset_gate = (reset_input + reset_hidden).sigmoid()
        candidate = (new_input + reset_gate * new_hidden).tanh()
        mixed = (1 - update_gate) * candidate + update_gate * hidden
        live = (step < sequence_lens)[:, None]
        hidden = torch.where(live, mixed, hidden)
        outputs.append(torch.where(live, mixed, 0.0))
    return torch.stack(outputs), hidden


def _run_directions(
    run: Callable[..., tuple[Tensor, ...]],
    inputs: Tensor,
    weights: Sequence[Tensor],
    sequence_lens: Tensor,
    state: Sequence[Tensor],
) -> tuple[Tensor, ...]:
    """Run forwards and, with weights for it, from the last valid step of each row backwards."""
    results = []
    for number in range(len(weights[0])):
        own = (
            [weight[number] for weight in weights],
            sequence_lens,
            [part[number] for part in state],
        )
        if number == 0:
            results.append(run(inputs, *own))
        else:
            backwards, *final = run(_reverse(inputs, sequence_lens), *own)
            results.append((_reverse(backwards, sequence_lens), *final))
    outputs, *states = zip(*results, strict=True)
    return torch.stack(outputs, 1), *(torch.stack(part) for part in states)


def _reverse(values: Tensor, sequence_lens: Tensor) -> Tensor:
    """Reverse the valid steps of each row of ``(time, batch, size)``; others stay."""
    steps = torch.arange(len(values), device=values.device)[:, None]
    places = torch.where(steps < sequence_lens, sequence_lens - 1 - steps, steps)
    return values.gather(0, places.unsqueeze(-1).expand_as(values))


@lstm.register_fake
def _lstm_shapes(
    inputs: Tensor, _weights: Sequence[Tensor], _sequence_lens: Tensor, state: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    outputs = inputs.new_empty(inputs.shape[0], *state[0].shape)
    return outputs, torch.empty_like(state[0]), torch.empty_like(state[1])


@gru.register_fake
def _gru_shapes(
    inputs: Tensor, _weights: Sequence[Tensor], _sequence_lens: Tensor, state: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    outputs = inputs.new_empty(inputs.shape[0], *state[0].shape)
    return outputs, torch.empty_like(state[0])


def _to_onnx_lstm(
    inputs: Any, weights: Sequence[Any], sequence_lens: Any, state: Sequence[Any]
) -> Any:
    operands = [inputs, *weights, sequence_lens, *state]
    return _operator("LSTM")(*operands, **_attributes(weights))


def _to_onnx_gru(
    inputs: Any, weights: Sequence[Any], sequence_lens: Any, state: Sequence[Any]
) -> Any:
    operands = [inputs, *weights, sequence_lens, *state]
    return _operator("GRU")(*operands, **_attributes(weights), linear_before_reset=1)


def _attributes(weights: Sequence[Any]) -> dict[str, Any]:
    """Return size and, unless it is the default, direction of a recurrent node."""
    size: dict[str, Any] = {"hidden_size": weights[1].shape[-1]}
    return size if weights[1].shape[0] == 1 else size | {"direction": "bidirectional"}


def _to_onnx_gather(values: Any, indices: Sequence[Any]) -> Any:
    """Write an index on one axis as one ``Gather``; the exporter's own way takes five nodes."""
    axes = [axis for axis, index in enumerate(indices) if index is not None]
    if len(axes) != 1:
        raise ArtifactError("a network may index one axis at a time")
    return _operator("Gather")(values, indices[axes[0]], axis=axes[0])


def _operator(name: str) -> Callable[..., Any]:
    operator: Callable[..., Any] = getattr(opset20, name)
    return operator


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.gatecast.lstm.default: _to_onnx_lstm,
    torch.ops.gatecast.gru.default: _to_onnx_gru,
    torch.ops.aten.index.Tensor: _to_onnx_gather,
}
"""How the exporter writes the two operators, and what else it would write badly."""
