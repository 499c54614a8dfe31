"""Runs that are padded to few fixed sizes give the same answers."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray
from typing_extensions import override

from app.artifact.specs import TensorSpec
from app.runner.batcher import DynamicBatcher
from app.runner.buckets import Buckets
from app.runner.engine import OrtEngine
from app.runner.loading import load_engine
from app.runner.queue import BatchLimits, PendingRequest, Terms
from app.runner.warming import warm_up
from app.tensors import Tensors
from tests.fake_engine import INTERFACE, FakeEngine
from tests.plain_models import lstm_model
from tests.tiny_artifact import WITH_COVARIATES, tiny_artifact
from tests.tiny_sequence_model import make_sequences, tiny_sequence_model
from tests.waiting import until

if TYPE_CHECKING:
    from app.errors import GatecastError
    from app.interface import Interface

LIMITS = BatchLimits(24, 4096, 0.5, 0.25, 100_000, 0.0, has_buckets=True)
BUCKETS = Buckets(replace(INTERFACE, max_time=100), 24)
TOLERANCE = 1e-5
FAR = 1e12


class Recorder:
    """A real engine that tells the sizes of its runs, in rows and steps."""

    def __init__(self, engine: OrtEngine) -> None:
        self.interface: Interface = engine.interface
        self.engine = engine
        self.sizes: list[tuple[int, int]] = []

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        self.sizes.append((self.interface.rows_of(inputs), self.interface.length_of(inputs)))
        return self.engine.run(inputs, outputs)


async def answer(engine: Recorder, *requests: Tensors) -> list[Tensors]:
    """Run requests that came together."""
    answers: dict[int, Tensors | GatecastError] = {}
    names = [spec.name for spec in engine.interface.outputs]
    async with DynamicBatcher(engine, LIMITS, model_name="m", clock=lambda: 0.0) as batching:
        for number, inputs in enumerate(requests):
            extent = engine.interface.extent_of(inputs)
            terms = Terms(0.0, FAR)
            batching.submit(
                PendingRequest(
                    inputs,
                    names,
                    extent,
                    terms,
                    answer=partial(answers.__setitem__, number),
                )
            )
        await until(lambda: len(answers) == len(requests))
    return [got for n in range(len(requests)) if isinstance(got := answers[n], dict)]


@pytest.mark.parametrize(
    ("rows", "bucket"),
    [(1, 1), (2, 2), (3, 4), (9, 16), (17, 24), (24, 24), (25, 28), (33, 40), (1000, 1024)],
)
def test_rows_are_powers_of_two_up_to_the_most(rows: int, bucket: int) -> None:
    assert BUCKETS.rows(rows) == bucket


@pytest.mark.parametrize(
    ("length", "bucket"),
    [(1, 1), (3, 4), (8, 8), (9, 10), (17, 20), (33, 40), (96, 96), (97, 100), (100, 100)],
)
def test_lengths_grow_by_a_quarter_at_most_and_never_beyond_the_models(
    length: int, bucket: int
) -> None:
    assert BUCKETS.length(length) == bucket


def test_all_lengths_are_told_and_each_of_them_stays_as_it_is() -> None:
    lengths = list(BUCKETS.lengths(100))
    assert lengths[:4] == [100, 96, 80, 64]
    assert lengths[-4:] == [8, 4, 2, 1]
    assert {BUCKETS.length(n) for n in range(1, 101)} == set(lengths)


def shape_of(spec: TensorSpec) -> list[int]:
    """Return the shape for 3 rows of 11 steps."""
    return [{"batch": 3, "time": 11}[n] if isinstance(n, str) else n for n in spec.shape]


def series(length: int) -> NDArray[np.float32]:
    return (np.arange(length) % 5 + length).astype(np.float32)


async def test_forecasts_of_ragged_requests_are_the_same() -> None:
    engine = Recorder(OrtEngine.from_bytes(tiny_artifact(), "cpu"))
    lengths = (17, 18, 3, 61, 60, 18, 17)
    requests = [
        {"past_target": series(n)[None], "sequence_lens": np.array([n], np.int32)} for n in lengths
    ]
    got = await answer(engine, *requests)
    assert set(engine.sizes) <= {(r, n) for r in (1, 2, 4, 8, 16) for n in (4, 20, 64)}
    for inputs, own in zip(requests, got, strict=True):
        want = engine.engine.run(inputs, list(own))
        for name, array in want.items():
            np.testing.assert_allclose(own[name], array, TOLERANCE, TOLERANCE, err_msg=name)


async def test_covariates_beyond_the_time_stay_in_their_place() -> None:
    engine = Recorder(OrtEngine.from_bytes(tiny_artifact(**WITH_COVARIATES), "cpu"))
    inputs = engine.engine.golden_case.input_tensors()
    rows, length = engine.interface.rows_of(inputs), engine.interface.length_of(inputs)
    (got,) = await answer(engine, inputs)
    assert engine.sizes != [(rows, length)]
    engine.engine.golden_case.check(got)


async def test_states_that_are_given_are_gone_on_from() -> None:
    engine = Recorder(OrtEngine.from_bytes(tiny_artifact(), "cpu"))
    names = [state.name for state in engine.interface.states]
    first = {"past_target": np.stack([series(9)] * 3), "sequence_lens": np.full(3, 9, np.int32)}
    (before,) = await answer(engine, first)
    states = {s.name: before[s.next_name] for s in engine.interface.states}
    new = {"past_target": series(3)[:, None], "sequence_lens": np.ones(3, np.int32)}
    (got,) = await answer(engine, states | new)
    assert names
    assert engine.sizes == [(4, 10), (4, 1)]
    want = engine.engine.run(states | new, ["quantiles"])["quantiles"]
    np.testing.assert_allclose(got["quantiles"], want, TOLERANCE)


@pytest.mark.parametrize("is_batch_first", [False, True], ids=["time first", "batch first"])
async def test_outputs_of_each_step_of_a_plain_model_are_cut_back(is_batch_first: bool) -> None:
    engine = Recorder(load_engine(lstm_model(is_batch_first=is_batch_first), "cpu"))
    inputs = {spec.name: np.ones(shape_of(spec), "f4") for spec in engine.interface.required_inputs}
    inputs["sequence_lens"] = np.array([11, 2, 5], np.int32)
    (got,) = await answer(engine, inputs)
    assert engine.sizes == [(4, 12)]
    for name, array in engine.engine.run(inputs, list(got)).items():
        np.testing.assert_allclose(got[name], array, TOLERANCE, TOLERANCE, err_msg=name)


async def test_tags_are_those_of_the_own_steps() -> None:
    engine = Recorder(OrtEngine.from_bytes(tiny_sequence_model("tag"), "cpu"))
    inputs = make_sequences(engine.engine.sequence_card, [13, 9, 4])
    (got,) = await answer(engine, inputs)
    assert engine.sizes == [(4, 14)]
    for name, array in engine.engine.run(inputs, list(got)).items():
        np.testing.assert_allclose(got[name], array, TOLERANCE, TOLERANCE)


async def test_model_without_lengths_is_left_alone() -> None:
    engine = Recorder(load_engine(lstm_model(has_lengths=False), "cpu"))
    (spec,) = engine.interface.required_inputs
    inputs = {spec.name: np.ones(shape_of(spec), np.float32)}
    await answer(engine, inputs)
    assert engine.sizes == [(3, 11)]


def test_every_size_is_run_before_the_model_serves() -> None:
    class Unpadded(FakeEngine):
        @override
        def run(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
            assert BUCKETS.pad(inputs) is inputs
            return super().run(inputs, outputs)

    engine = Unpadded()
    engine.interface = BUCKETS.interface
    warm_up(engine, replace(LIMITS, max_batch_steps=2000), budget_s=30)
    assert [length for _, length in engine.shapes[::6]][:3] == [28, 100, 96]
    assert len(engine.shapes) == len(set(engine.shapes)) == 6 * len(list(BUCKETS.lengths(100)))
