"""Runs through I/O bindings, here on the CPU: the same answers from buffers that are used again."""

import gc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from app.artifact.specs import TensorSpec
from app.errors import EngineError
from app.interface import Interface
from app.runner.binding import Bindings
from app.runner.engine import OrtEngine
from app.runner.loading import load_engine
from app.runner.page_locking import lock_pages, make_buffer
from app.tensors import Tensors
from tests.plain_models import lstm_model
from tests.tiny_artifact import WITH_COVARIATES, tiny_artifact
from tests.tiny_sequence_model import make_sequences, tiny_sequence_model


class Bound:
    """An engine that runs through bindings, and the buffers that were locked."""

    def __init__(self, model: bytes) -> None:
        self.plain = load_engine(model, "cpu")
        self.engine = load_engine(model, "cpu")
        self.locked: list[weakref.ref[NDArray[np.uint8]]] = []
        self.engine.bind(Bindings(self.engine.session, self._lock))

    def _lock(self, buffer: NDArray[np.uint8]) -> None:
        self.locked.append(weakref.ref(buffer))

    def check(self, inputs: Tensors) -> Tensors:
        names = [spec.name for spec in self.engine.interface.outputs]
        got, want = self.engine.run(inputs, names), self.plain.run(inputs, names)
        for name, array in want.items():
            np.testing.assert_array_equal(got[name], array, err_msg=name)
        return got


def series(rows: int, length: int) -> Tensors:
    values = np.arange(rows * length, dtype=np.float32).reshape(rows, length) % 7
    lengths = 1 + np.arange(rows, dtype=np.int32) % length
    lengths[0] = length
    return {"past_target": values + 1, "sequence_lens": lengths}


@pytest.fixture(scope="module")
def bound() -> Bound:
    return Bound(tiny_artifact())


def test_sizes_that_change_give_the_same_numbers(bound: Bound) -> None:
    for rows, length in ((3, 20), (16, 64), (1, 1), (3, 20), (40, 2)):
        bound.check(series(rows, length))


def test_answers_stay_when_the_buffers_are_used_again(bound: Bound) -> None:
    before = bound.check(series(4, 30))
    copies = {name: array.copy() for name, array in before.items()}
    bound.check(series(4, 31))
    for name, array in before.items():
        np.testing.assert_array_equal(array, copies[name])


def test_states_that_are_given_are_gone_on_from(bound: Bound) -> None:
    before = bound.check(series(2, 10))
    states = {s.name: before[s.next_name] for s in bound.engine.interface.states}
    bound.check(states | series(2, 1))


def test_buffers_are_locked_once_for_each_tensor() -> None:
    bound = Bound(tiny_artifact())
    bound.check(series(8, 30))
    num_locked = len(bound.locked)
    for rows, length in ((8, 30), (1, 5), (7, 29)):
        bound.check(series(rows, length))
    interface = bound.engine.interface
    assert len(bound.locked) == num_locked == len(interface.inputs) + len(interface.outputs)


def test_buffer_that_was_too_small_is_freed() -> None:
    bound = Bound(tiny_artifact())
    bound.check(series(1, 2))
    first = list(bound.locked)
    bound.check(series(64, 64))
    gc.collect()
    assert any(buffer() is None for buffer in first)


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (
            lambda: tiny_sequence_model("tag"),
            lambda e: make_sequences(e.sequence_card, [9, 4, 1]),
        ),
        (lstm_model, lambda e: whole(e.interface)),
        (lambda: lstm_model(has_lengths=False, is_batch_first=True), lambda e: whole(e.interface)),
        (
            lambda: tiny_artifact(**WITH_COVARIATES),
            lambda e: e.golden_case.input_tensors(),
        ),
    ],
    ids=["tags", "plain", "plain without lengths", "covariates"],
)
def test_other_models_give_the_same_numbers(
    model: Callable[[], bytes], inputs: Callable[[OrtEngine], Tensors]
) -> None:
    bound = Bound(model())
    bound.check(inputs(bound.plain))


def whole(interface: Interface) -> Tensors:
    sizes = {"batch": 3, "time": 6}
    inputs: Tensors = {
        spec.name: np.ones([sizes[n] if isinstance(n, str) else n for n in spec.shape], np.float32)
        for spec in interface.required_inputs
    }
    if interface.lengths is not None:
        inputs[interface.lengths] = np.array([6, 2, 4], np.int32)
    return inputs


def test_output_whose_size_is_not_known_is_given_room_by_onnx_runtime(bound: Bound) -> None:
    unknown = [
        spec.model_copy(update={"shape": (*spec.shape[:1], "quantiles.1", *spec.shape[2:])})
        if spec.name == "quantiles"
        else spec
        for spec in bound.plain.interface.outputs
    ]
    interface = replace(bound.plain.interface, outputs=tuple(unknown))
    inputs = series(3, 12) | interface.initial_states(3)
    names = ["next_hidden_state", "quantiles"]
    got = Bindings(bound.plain.session).run(inputs, names, interface)
    for array, name in zip(got, names, strict=True):
        np.testing.assert_array_equal(array, bound.plain.run(inputs, [name])[name])


def test_runs_at_the_same_time_have_buffers_of_their_own(bound: Bound) -> None:
    cases = [series(1 + n % 9, 1 + n % 40) for n in range(64)]
    with ThreadPoolExecutor(4) as threads:
        got = list(threads.map(lambda case: bound.engine.run(case, ["quantiles"]), cases))
    for case, own in zip(cases, got, strict=True):
        want = bound.plain.run(case, ["quantiles"])["quantiles"]
        np.testing.assert_array_equal(own["quantiles"], want)


def test_run_after_one_that_failed_is_sound(bound: Bound) -> None:
    wrong = series(2, 9) | {"sequence_lens": np.array([9, 99], np.int32)}
    with pytest.raises(EngineError):
        bound.engine.run(wrong, ["quantiles"])
    bound.check(series(2, 9))


def test_texts_and_unknown_batches_are_run_without_bindings(bound: Bound) -> None:
    interface = bound.plain.interface
    text = TensorSpec(name="region", datatype="BYTES", shape=("batch",))
    assert Bindings.fit(interface)
    assert not Bindings.fit(replace(interface, inputs=(*interface.inputs, text)))
    assert not Bindings.fit(replace(interface, is_mergeable=False))


def test_buffer_that_cuda_does_not_lock_is_used_as_it_is() -> None:
    buffer = make_buffer(5000)
    assert not lock_pages(buffer)
    buffer[:] = 7
    assert (buffer.nbytes >= 5000, buffer.ctypes.data % 4096) == (True, 0)
