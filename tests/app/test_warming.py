"""Models that are run in the sizes to come before they serve."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from typing_extensions import override

from app.artifact.specs import TensorSpec
from app.errors import EngineError
from app.interface import BATCH, TIME
from app.runner.engine import OrtEngine
from app.runner.queue import BatchLimits
from app.runner.warming import warm_up
from app.tensors import Tensors
from tests.fake_engine import INTERFACE, FakeEngine
from tests.fakes import ManualClock
from tests.tiny_artifact import tiny_artifact

LIMITS = BatchLimits(6, 1000, 0.5, 0.25, 100_000, 0.0)


class SlowEngine(FakeEngine):
    """Takes a second of its clock for each row."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock

    @override
    def run(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        self._clock.now += len(inputs["past_target"])
        return super().run(inputs, outputs)


def test_short_and_long_rows_are_run_from_one_to_the_cap() -> None:
    engine = FakeEngine()
    engine.interface = replace(INTERFACE, max_time=200)
    warm_up(engine, LIMITS, budget_s=30)
    assert engine.shapes == [
        (1, 50),
        (2, 50),
        (4, 50),
        (6, 50),
        (1, 200),
        (2, 200),
        (4, 200),
        (5, 200),
    ]


def test_rows_that_the_steps_allow_are_rounded_to_a_bucket() -> None:
    engine = FakeEngine()
    engine.interface = replace(INTERFACE, max_time=4)
    limits = replace(LIMITS, max_batch_size=16, max_batch_steps=20, has_buckets=True)
    warm_up(engine, limits, budget_s=30)
    assert [rows for rows, length in engine.shapes if length == 4] == [1, 2, 4, 8]


def test_run_that_would_end_too_late_is_left_out() -> None:
    clock = ManualClock()
    engine = SlowEngine(clock)
    warm_up(engine, replace(LIMITS, max_batch_size=64), budget_s=10, clock=clock)
    assert [rows for rows, _ in engine.shapes] == [1, 2, 4, 1, 2]
    assert clock.now <= 10


def test_failure_is_no_reason_to_refuse_the_model() -> None:
    engine = FakeEngine()
    engine.error = EngineError("these numbers never occur")
    warm_up(engine, LIMITS, budget_s=30)
    assert len(engine.shapes) == 1


def test_model_whose_sizes_are_not_known_is_left_cold() -> None:
    engine = FakeEngine()
    engine.interface = replace(INTERFACE, is_mergeable=False)
    warm_up(engine, LIMITS, budget_s=30)
    assert engine.shapes == []


def test_inputs_fit_every_dimension_and_type() -> None:
    class Recorder(FakeEngine):
        @override
        def run(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
            given.append(inputs)
            return super().run(inputs, outputs)

    given: list[Tensors] = []
    engine = Recorder()
    more = (
        TensorSpec(name="future", datatype="FP64", shape=(BATCH, f"{TIME}+6", 2)),
        TensorSpec(name="name", datatype="BYTES", shape=(BATCH, "letters")),
    )
    engine.interface = replace(INTERFACE, inputs=(*INTERFACE.inputs, *more), max_time=4)
    warm_up(engine, replace(LIMITS, max_batch_size=1), budget_s=30)
    shapes = {name: array.shape for name, array in given[-1].items()}
    assert shapes == {
        "past_target": (1, 4), "sequence_lens": (1,), "future": (1, 10, 2), "name": (1, 3),
    }  # fmt: skip
    assert given[-1]["sequence_lens"].tolist() == [4]
    assert given[-1]["name"].dtype == np.dtype(object)


@pytest.mark.parametrize("budget_s", [0.0, 30.0])
def test_real_forecaster_is_left_as_it_was(budget_s: float) -> None:
    engine = OrtEngine.from_bytes(tiny_artifact(), "cpu")
    warm_up(engine, LIMITS, budget_s=budget_s)
    engine.check_golden_case()
