"""What a verification measured, and the measures that all artifacts share."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.artifact.golden_case import relative_error
from app.artifact.metadata import AnyCard
from app.runner.engine import OrtEngine
from app.tensors import Tensors
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

RELATIVE_LIMIT = 1e-5
"""Largest error that float32 rounding may explain."""


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


def check_structure(model: bytes, card: AnyCard) -> Iterator[Figure]:
    """Count what the graph must not hold."""
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


def replay_golden_case(engine: OrtEngine) -> Figure:
    """Compare a run of the golden case with its record."""
    case = engine.golden_case
    want = {value.name: value.to_array() for value in case.outputs}
    error = largest_error(engine.run(case.input_tensors(), list(want)), want)
    remark = "recorded in PyTorch"
    return Figure("golden case", error, case.relative_tolerance, remark=remark)


def largest_error(got: Tensors, want: Tensors) -> float:
    """Return the largest relative error over all tensors."""
    return max(relative_error(got[name], want[name]) for name in want)


def is_bit_equal(left: NDArray[np.generic], right: NDArray[np.generic]) -> bool:
    """Tell whether two arrays hold the same bytes."""
    return left.tobytes() == right.tobytes()
