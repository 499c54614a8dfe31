"""The proof that an artifact says what its network says, however it is asked."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.artifact import Card, relative_error
from app.runner.engine import OrtEngine
from app.tensors import Tensors
from export.card import run_network
from export.cost import measure_latency_ms, resident_bytes
from export.samples import fill_padding, make_samples, take_row, take_steps
from export.structure import (
    count_external_tensors,
    count_foreign_operators,
    count_loops,
    count_machine_facts,
    count_operators,
    count_recurrent_faults,
    count_shape_faults,
    load_graph,
)
from models.checkpoint import Checkpoint

RELATIVE_LIMIT = 1e-5
"""Largest error that float32 rounding may explain."""

_SEED = 20_262
_NUM_SERIES = 64
_SHORTEST = 2
_LATENCY_STEPS = 120
_LARGE_BATCH = 32
_JUNK = (0.0, 1e30, -1e30)


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number.

    Attributes:
        name: What was measured.
        value: The number.
        limit: Most that is allowed; None where the number is for information.
        unit: Its unit, empty for a count or a ratio.
        remark: How it was measured.
    """

    name: str
    value: float
    limit: float | None = None
    unit: str = ""
    remark: str = ""

    @property
    def passed(self) -> bool:
        """Whether the number is within its limit; one that is not a number never is."""
        return self.limit is None or self.value <= self.limit


@dataclass(frozen=True, slots=True)
class Verification:
    """All figures of the artifact with this digest."""

    digest: str
    figures: tuple[Figure, ...]

    @property
    def passed(self) -> bool:
        """Whether every figure is within its limit."""
        return all(figure.passed for figure in self.figures)

    @property
    def failures(self) -> tuple[Figure, ...]:
        """The figures beyond their limits."""
        return tuple(figure for figure in self.figures if not figure.passed)

    def __getitem__(self, name: str) -> Figure:
        """Return the figure of that name."""
        return next(figure for figure in self.figures if figure.name == name)


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
    figures = [*_check_structure(model, engine.card)]
    if checkpoint is not None:
        figures += _compare_with_network(checkpoint, engine, samples)
    figures += [
        _replay_golden_case(engine),
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


def _largest_error(got: Tensors, want: Tensors) -> float:
    return max(relative_error(got[name], want[name]) for name in want)


def _carry(card: Card, outputs: Tensors) -> Tensors:
    return {state.name: outputs[state.next_name] for state in card.states}


def _check_structure(model: bytes, card: Card) -> Iterator[Figure]:
    graph = load_graph(model)
    operators = count_operators(graph)
    kind = card.cell.upper()
    yield Figure("nodes", operators.total(), remark=f"{operators[kind]} of them {kind}")
    faults: dict[str, Callable[[], int]] = {
        "recurrent nodes too many, too few or unsound": lambda: count_recurrent_faults(graph, card),
        "loops and branches": lambda: count_loops(graph),
        "operators outside ONNX": lambda: count_foreign_operators(graph),
        "tensors in other files": lambda: count_external_tensors(graph),
        "shapes that differ from the card": lambda: count_shape_faults(graph, card),
        "traces of this machine": lambda: count_machine_facts(graph),
    }
    yield from (Figure(name, count(), limit=0) for name, count in faults.items())


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


def _replay_golden_case(engine: OrtEngine) -> Figure:
    case = engine.golden_case
    want = {value.name: value.to_array() for value in case.outputs}
    error = _largest_error(engine.run(case.input_tensors(), list(want)), want)
    remark = "recorded in PyTorch"
    return Figure("golden case", error, case.relative_tolerance, remark=remark)


def _compare_alone(engine: OrtEngine, samples: Tensors, batch: Tensors) -> Figure:
    errors, num_equal, num_all_equal = [], 0, 0
    for row in range(_NUM_SERIES):
        alone = _run(engine, take_row(samples, row))
        together = {name: array[row : row + 1] for name, array in batch.items()}
        errors.append(_largest_error(alone, together))
        num_equal += _bit_equal(alone["quantiles"], together["quantiles"])
        num_all_equal += all(_bit_equal(alone[name], together[name]) for name in together)
    remark = f"{_NUM_SERIES} series, {num_equal} bit-equal, {num_all_equal} with all states"
    return Figure("one series alone against in a batch", max(errors), RELATIVE_LIMIT, remark=remark)


def _compare_padding(engine: OrtEngine, samples: Tensors, batch: Tensors) -> Figure:
    runs = [_run(engine, fill_padding(samples, junk)) for junk in _JUNK]
    error = max(_largest_error(run, batch) for run in runs)
    num_equal = sum(all(_bit_equal(run[name], batch[name]) for name in batch) for run in runs)
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
        errors.append(_largest_error(_run(engine, rest), whole))
    remark = f"{_NUM_SERIES} series cut anywhere"
    return Figure("carried state against a full run", max(errors), RELATIVE_LIMIT, remark=remark)


def _time_runs(engine: OrtEngine) -> Iterator[Figure]:
    steps_of_runs = _steps(engine.card)
    for size, steps in ((1, 1), (1, steps_of_runs), (_LARGE_BATCH, steps_of_runs)):
        inputs = make_samples(engine.card, [steps] * size, _SEED)
        name = f"latency, batch {size}, {steps} step{'s' if steps > 1 else ''}"
        latency_ms = measure_latency_ms(engine, inputs)
        yield Figure(name, latency_ms, unit="ms", remark="median, one thread")


def _bit_equal(left: NDArray[np.generic], right: NDArray[np.generic]) -> bool:
    return left.tobytes() == right.tobytes()
