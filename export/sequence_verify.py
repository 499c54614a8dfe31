"""The proof that the artifact of a sequence model says what its network says."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from app.artifact.sequence_card import SequenceCard
from app.runner.engine import OrtEngine
from app.tensors import Tensors
from export.cost import measure_latency_ms
from export.figures import (
    RELATIVE_LIMIT,
    Figure,
    Verification,
    check_structure,
    is_bit_equal,
    largest_error,
    replay_golden_case,
)
from export.sequences import fill_padding, make_sequences, run_network, take_row
from models.sequences.calibration import softmax
from models.sequences.checkpoint import SequenceCheckpoint
from models.sequences.network import SequenceNetwork

_SEED = 20_264
_NUM_SEQUENCES = 48
_LATENCY_STEPS = 64
_LARGE_BATCH = 32
_JUNK = (0.0, 1e30, -1e30, np.inf)
_SUM_LIMIT = 1e-5


def verify_sequences(model: bytes, checkpoint: SequenceCheckpoint | None = None) -> Verification:
    """Measure the artifact of a sequence model with the engine that serves it, on the CPU.

    Args:
        model: The sealed artifact.
        checkpoint: The network it was made from; without it the golden case, which was recorded in
            PyTorch, stands for the comparison with PyTorch, and gives the sequences.

    Raises:
        ArtifactError: The file is damaged, not ours, or refused by ONNX Runtime.
        EngineError: A run failed or gave numbers that are not finite.
    """
    engine = OrtEngine.from_bytes(model, "cpu")
    card = engine.sequence_card
    inputs = _inputs(engine, checkpoint)
    batch = _run(engine, inputs)
    figures = [*check_structure(model, card)]
    if checkpoint is not None:
        figures += _compare_with_network(checkpoint.network, card, inputs, batch)
    figures += [
        replay_golden_case(engine),
        _compare_alone(engine, inputs, batch),
        _compare_padding(engine, inputs, batch),
    ]
    if card.task != "regress":
        sums = engine.run(inputs, ["probabilities"])["probabilities"].astype(np.float64).sum(-1)
        if card.task == "tag":  # there is nothing to say of the padding
            sums = sums[np.arange(sums.shape[1]) < inputs["sequence_lens"][:, None]]
        worst = float(np.abs(sums - 1).max())
        figures.append(Figure("sum of the probabilities, off 1 by", worst, _SUM_LIMIT))
    figures.append(Figure("file size", len(model) / 1e6, unit="MB"))
    if checkpoint is not None:
        figures += _time_runs(engine, checkpoint.network)
    return Verification(engine.digest, tuple(figures))


def _inputs(engine: OrtEngine, checkpoint: SequenceCheckpoint | None) -> Tensors:
    if checkpoint is None:
        return engine.golden_case.input_tensors()
    longest = engine.sequence_card.max_length
    lengths = np.random.default_rng(_SEED).integers(1, longest, _NUM_SEQUENCES, endpoint=True)
    return make_sequences(checkpoint.network, [1, longest, *map(int, lengths[2:])], _SEED)


def _run(engine: OrtEngine, inputs: Tensors) -> Tensors:
    """Return the answers; those of steps past the end of their row are none, and become zero."""
    name = engine.sequence_card.outputs[0].name
    answers = engine.run(inputs, [name])
    return {name: _without_padding(answers[name], inputs, engine.sequence_card)}


def _without_padding(
    answers: NDArray[np.float32], inputs: Tensors, card: SequenceCard
) -> NDArray[np.float32]:
    if card.task != "tag":
        return answers
    steps = np.arange(answers.shape[1])
    return np.where((steps < inputs["sequence_lens"][:, None])[..., None], answers, np.float32(0))


def _compare_with_network(
    network: SequenceNetwork, card: SequenceCard, inputs: Tensors, batch: Tensors
) -> Iterator[Figure]:
    name = card.outputs[0].name
    answers = run_network(network, inputs)[name]
    want = {name: _without_padding(answers, inputs, card)}
    remark = f"{len(inputs['sequence'])} ragged sequences with gaps, up to {card.max_length} steps"
    error = largest_error(batch, want)
    yield Figure("answers against PyTorch", error, RELATIVE_LIMIT, remark=remark)
    if card.task == "regress":
        return
    with torch.inference_mode():
        logits = network.score({n: torch.from_numpy(a) for n, a in inputs.items()}).double().numpy()
    tempered = softmax(logits / card.temperature).astype(np.float32)
    tempered = _without_padding(tempered, inputs, card)
    error = largest_error(batch, {name: tempered})
    remark = f"logits of PyTorch over {card.temperature:.3f}"
    yield Figure("temperature of the card", error, RELATIVE_LIMIT, remark=remark)


def _compare_alone(engine: OrtEngine, inputs: Tensors, batch: Tensors) -> Figure:
    errors, num_equal = [], 0
    for row, length in enumerate(inputs["sequence_lens"]):
        alone = _run(engine, take_row(inputs, row))
        together = {name: array[row : row + 1] for name, array in batch.items()}
        if engine.sequence_card.task == "tag":
            together = {name: array[:, :length] for name, array in together.items()}
        errors.append(largest_error(alone, together))
        num_equal += all(is_bit_equal(alone[name], together[name]) for name in together)
    remark = f"{len(errors)} sequences without padding, {num_equal} bit-equal"
    name = "one sequence alone against in a batch"
    return Figure(name, max(errors), RELATIVE_LIMIT, remark=remark)


def _compare_padding(engine: OrtEngine, inputs: Tensors, batch: Tensors) -> Figure:
    longer = np.pad(inputs["sequence"], ((0, 0), (0, 3), (0, 0)))
    padded = inputs | {"sequence": longer}
    steps = inputs["sequence"].shape[1]
    is_tag = engine.sequence_card.task == "tag"
    runs = [_run(engine, fill_padding(padded, junk)) for junk in _JUNK]
    cut = [{n: a[:, :steps] if is_tag else a for n, a in run.items()} for run in runs]
    error = max(largest_error(run, batch) for run in cut)
    num_equal = sum(all(is_bit_equal(run[name], batch[name]) for name in batch) for run in cut)
    remark = f"3 steps more of it; {num_equal} of {len(_JUNK)} fillings bit-equal to NaN"
    return Figure("contents of the padding", error, RELATIVE_LIMIT, remark=remark)


def _time_runs(engine: OrtEngine, network: SequenceNetwork) -> Iterator[Figure]:
    card = engine.sequence_card
    steps = min(_LATENCY_STEPS, card.max_length)
    for size in (1, _LARGE_BATCH):
        inputs = make_sequences(network, [steps] * size, _SEED)
        latency_ms = measure_latency_ms(engine, inputs, card.outputs[0].name)
        name = f"latency, batch {size}, {steps} steps"
        yield Figure(name, latency_ms, unit="ms", remark="median, one thread")
