"""The proof that an artifact says what its network says, however it is asked."""

from collections.abc import Iterator

import numpy as np

from app.artifact.card import Card
from app.artifact.golden_case import relative_error
from app.runner.engine import OrtEngine
from app.tensors import Tensors
from export.card import run_network
from export.cost import measure_latency_ms, resident_bytes
from export.figures import (
    RELATIVE_LIMIT,
    Figure,
    Verification,
    check_structure,
    is_bit_equal,
    largest_error,
    replay_golden_case,
)
from export.samples import fill_padding, make_samples, take_row, take_steps
from models.checkpoint import Checkpoint

_SEED = 20_262
_NUM_SERIES = 64
_SHORTEST = 2
_LATENCY_STEPS = 120
_LARGE_BATCH = 32
_JUNK = (0.0, 1e30, -1e30)


def verify(model: bytes, checkpoint: Checkpoint | None = None) -> Verification:
    """Measure an artifact with the engine that serves it, on the CPU.

    Args:
        model: The sealed artifact.
        checkpoint: The network it was made from; without it the golden case, which was recorded in
            PyTorch, stands for the comparison with PyTorch.

    Raises:
        ArtifactError: The file is damaged, not ours, or refused by ONNX Runtime.
        EngineError: A run failed or gave numbers that are not finite.
    """
    engine, memory = _open(model)
    samples = make_samples(engine.card, _lengths(engine.card), _SEED)
    batch = _run(engine, samples)
    figures = [*check_structure(model, engine.card)]
    if checkpoint is not None:
        figures += _compare_with_network(checkpoint, engine, samples)
    figures += [
        replay_golden_case(engine),
        _compare_alone(engine, samples, batch),
        _compare_padding(engine, samples, batch),
        _compare_carried(engine, samples, batch),
        Figure("file size", len(model) / 1e6, unit="MB"),
        *memory,
        *_time_runs(engine),
    ]
    return Verification(engine.digest, tuple(figures))


def _open(model: bytes) -> tuple[OrtEngine, list[Figure]]:
    before = resident_bytes()
    engine = OrtEngine.from_bytes(model, "cpu")
    _run(engine, make_samples(engine.card, [_steps(engine.card)] * _LARGE_BATCH, _SEED))
    after = resident_bytes()
    if before is None or after is None:
        return engine, []
    remark = f"growth of the process: session, first run of {_LARGE_BATCH}"
    return engine, [Figure("memory", (after - before) / 1e6, unit="MB", remark=remark)]


def _steps(card: Card) -> int:
    return min(_LATENCY_STEPS, card.context_length)


def _lengths(card: Card) -> list[int]:
    generator = np.random.default_rng(_SEED)
    longest = max(card.context_length, _SHORTEST + 1)
    lengths = generator.integers(_SHORTEST, longest, _NUM_SERIES, endpoint=True)
    return [*map(int, lengths[:-2]), _SHORTEST, longest]


def _run(engine: OrtEngine, inputs: Tensors) -> Tensors:
    card = engine.card
    names = [spec.name for spec in card.outputs] + [state.next_name for state in card.states]
    return engine.run(inputs, names)


def _carry(card: Card, outputs: Tensors) -> Tensors:
    return {state.name: outputs[state.next_name] for state in card.states}


def _compare_with_network(
    checkpoint: Checkpoint, engine: OrtEngine, samples: Tensors
) -> list[Figure]:
    network = checkpoint.network
    first = run_network(network, samples)
    again = samples | _carry(engine.card, first)
    pairs = [(_run(engine, samples), first), (_run(engine, again), run_network(network, again))]
    forecasts = max(relative_error(got["quantiles"], want["quantiles"]) for got, want in pairs)
    states = max(
        relative_error(got[state.next_name], want[state.next_name], floor_share=1.0)
        for got, want in pairs
        for state in engine.card.states
    )
    remark = f"{_NUM_SERIES} ragged series with gaps, from new and from carried states"
    return [
        Figure("forecasts against PyTorch", forecasts, RELATIVE_LIMIT, remark=remark),
        Figure(
            "states against PyTorch",
            states,
            RELATIVE_LIMIT,
            remark=f"{remark}; relative to the largest in the row",
        ),
    ]


def _compare_alone(engine: OrtEngine, samples: Tensors, batch: Tensors) -> Figure:
    errors, num_equal, num_all_equal = [], 0, 0
    for row in range(_NUM_SERIES):
        alone = _run(engine, take_row(samples, row))
        together = {name: array[row : row + 1] for name, array in batch.items()}
        errors.append(largest_error(alone, together))
        num_equal += is_bit_equal(alone["quantiles"], together["quantiles"])
        num_all_equal += all(is_bit_equal(alone[name], together[name]) for name in together)
    remark = f"{_NUM_SERIES} series, {num_equal} bit-equal, {num_all_equal} with all states"
    return Figure("one series alone against in a batch", max(errors), RELATIVE_LIMIT, remark=remark)


def _compare_padding(engine: OrtEngine, samples: Tensors, batch: Tensors) -> Figure:
    runs = [_run(engine, fill_padding(samples, junk)) for junk in _JUNK]
    error = max(largest_error(run, batch) for run in runs)
    num_equal = sum(all(is_bit_equal(run[name], batch[name]) for name in batch) for run in runs)
    remark = f"{num_equal} of {len(_JUNK)} fillings bit-equal to NaN"
    return Figure("contents of the padding", error, RELATIVE_LIMIT, remark=remark)


def _compare_carried(engine: OrtEngine, samples: Tensors, batch: Tensors) -> Figure:
    lengths = samples["sequence_lens"]
    cuts = np.random.default_rng(_SEED + 1).integers(1, lengths).astype(np.int32)
    states = _carry(engine.card, _run(engine, take_steps(samples, 0, cuts)))
    errors = []
    for row, cut in enumerate(cuts):
        rest = take_steps(take_row(samples, row), int(cut), lengths[row : row + 1] - cut)
        rest |= {name: array[row : row + 1] for name, array in states.items()}
        whole = {name: array[row : row + 1] for name, array in batch.items()}
        errors.append(largest_error(_run(engine, rest), whole))
    remark = f"{_NUM_SERIES} series cut anywhere"
    return Figure("carried state against a full run", max(errors), RELATIVE_LIMIT, remark=remark)


def _time_runs(engine: OrtEngine) -> Iterator[Figure]:
    steps_of_runs = _steps(engine.card)
    for size, steps in ((1, 1), (1, steps_of_runs), (_LARGE_BATCH, steps_of_runs)):
        inputs = make_samples(engine.card, [steps] * size, _SEED)
        name = f"latency, batch {size}, {steps} step{'s' if steps > 1 else ''}"
        latency_ms = measure_latency_ms(engine, inputs, "quantiles")
        yield Figure(name, latency_ms, unit="ms", remark="median, one thread")
