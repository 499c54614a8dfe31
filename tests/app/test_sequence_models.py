"""Models that classify, regress and tag, from their file to their runs."""

import asyncio
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.artifact.card import Card
from app.artifact.metadata import read_card
from app.artifact.sequence_card import SequenceTask
from app.errors import ArtifactError, EngineError, GatecastError
from app.example import example_request, summarize
from app.gateway.task_preparation import prepare_sequences
from app.gateway.task_routes import TASKS
from app.gateway.task_schemas import TaskRequest
from app.interface import Interface
from app.runner.batcher import DynamicBatcher
from app.runner.checks import check_inputs
from app.runner.engine import OrtEngine
from app.runner.loading import load_engine
from app.runner.merging import merge, split
from app.runner.queue import BatchLimits, PendingRequest, Terms
from app.settings import Settings
from tests.fakes import make_sequence_card
from tests.tiny_sequence_model import make_sequences, tiny_sequence_model

if TYPE_CHECKING:
    from app.tensors import Tensors

BATCH_TOLERANCE = 1e-5
"""Relative: what the project promises for an answer in company against one alone."""

FAR = 1e12
LIMITS = BatchLimits(8, 4096, 0.5, 1.0, 20_000, 0.0)


def output_of(engine: OrtEngine) -> str:
    return engine.sequence_card.outputs[0].name


@pytest.mark.parametrize("task", TASKS)
def test_card_travels_as_json(task: SequenceTask) -> None:
    card = make_sequence_card(task)
    assert read_card(card.model_dump_json()) == card


@pytest.mark.parametrize(
    "text", ['{"task": "rank"}', '{"task": "classify"}', '{"task": ["tag"]}', "[]", "{"]
)
def test_card_of_another_form_is_one_line(text: str) -> None:
    with pytest.raises(ArtifactError, match=r"gatecast\.card is not of this format") as caught:
        read_card(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("task", TASKS)
def test_model_proves_itself_and_is_no_forecaster(task: SequenceTask) -> None:
    engine = load_engine(tiny_sequence_model(task), "cpu")
    assert engine.sequence_card.task == task
    assert not isinstance(engine.any_card, Card)
    with pytest.raises(ArtifactError, match=f"its task is {task}"):
        _ = engine.card


@pytest.mark.parametrize("task", TASKS)
@settings(deadline=None, derandomize=True, max_examples=15)
@given(
    lengths=st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=3), min_size=2, max_size=4)
)
def test_requests_of_any_lengths_share_a_run(task: SequenceTask, lengths: list[list[int]]) -> None:
    engine = OrtEngine.from_bytes(tiny_sequence_model(task), "cpu")
    interface, names = engine.interface, [output_of(engine)]
    requests = [make_sequences(engine.sequence_card, one, seed) for seed, one in enumerate(lengths)]
    extents = [interface.extent_of(request) for request in requests]
    together = split(extents, engine.run(merge(requests, interface), names), interface)
    for request, got in zip(requests, together, strict=True):
        want = engine.run(request, names)
        assert got[names[0]].shape == want[names[0]].shape
        np.testing.assert_allclose(got[names[0]], want[names[0]], rtol=BATCH_TOLERANCE, atol=1e-6)


async def test_batcher_gives_each_caller_its_own_steps() -> None:
    engine = OrtEngine.from_bytes(tiny_sequence_model("tag"), "cpu")
    requests = [make_sequences(engine.sequence_card, [length], length) for length in (3, 9, 1)]
    loop = asyncio.get_running_loop()
    answers: list[asyncio.Future[Tensors | GatecastError]] = [
        loop.create_future() for _ in requests
    ]
    async with DynamicBatcher(engine, LIMITS, model_name="tag") as batcher:
        for request, answer in zip(requests, answers, strict=True):
            extent = engine.interface.extent_of(request)
            terms = Terms(0.0, FAR)
            batcher.submit(
                PendingRequest(request, ["probabilities"], extent, terms, answer=answer.set_result)
            )
        got = await asyncio.gather(*answers)
    assert batcher.read_statistics().execution_count == 1
    for request, own in zip(requests, got, strict=True):
        assert isinstance(own, dict)
        want = engine.run(request, ["probabilities"])["probabilities"]
        np.testing.assert_allclose(own["probabilities"], want, rtol=BATCH_TOLERANCE)


def test_interface_bounds_what_is_run() -> None:
    interface = Interface.from_card(make_sequence_card("tag"))
    card = make_sequence_card("tag")
    check_inputs(make_sequences(card, [48, 2]), interface)
    for wrong in (
        make_sequences(card, [49]),
        make_sequences(make_sequence_card("tag", features=("load",)), [3]),
        make_sequences(card, [3]) | {"sequence_lens": np.array([4], np.int32)},
    ):
        with pytest.raises(GatecastError):
            check_inputs(wrong, interface)


def test_numbers_that_are_not_finite_are_no_answer() -> None:
    engine = OrtEngine.from_bytes(tiny_sequence_model("regress"), "cpu")
    inputs = make_sequences(engine.sequence_card, [2])
    inputs["sequence"][:] = np.inf
    with pytest.raises(EngineError, match="not finite"):
        engine.run(inputs, ["values"])


@pytest.mark.parametrize("task", TASKS)
def test_example_is_accepted_and_the_model_summarized(task: SequenceTask) -> None:
    card = make_sequence_card(task)
    request = msgspec.convert(example_request(card), TaskRequest)
    prepared = prepare_sequences(request, card, Settings())
    assert (len(prepared.rows), prepared.refusals) == (1, {})
    assert summarize(card).startswith(f"LSTM, {task}, 2 features, ")
