"""The engine on a GPU; run by ``pytest -m gpu`` on a machine that has one."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from app.artifact.directory import MODEL_FILE
from app.artifact.golden_case import relative_error
from app.errors import OutOfMemoryError
from app.runner.buckets import Buckets
from app.runner.engine import OrtEngine, cuda_is_usable
from app.runner.loading import load_engine
from app.runner.page_locking import lock_pages, make_buffer
from app.tensors import Tensors
from tests.plain_models import lstm_model
from tests.tiny_artifact import tiny_artifact

STARTER = Path(__file__).parent.parent.parent / "model_repository" / "monthly" / "1" / MODEL_FILE
RELATIVE_LIMIT = 1e-5
"""TF32 is off, so a GPU rounds as float32 does."""

pytestmark = pytest.mark.gpu


def ragged_batch(rows: int, time: int) -> Tensors:
    generator = np.random.default_rng(0)
    season = 2 + np.sin(np.arange(time) / 2)
    past_target = (season * 10 ** generator.uniform(-1, 5, (rows, 1))).astype(np.float32)
    past_target[generator.random((rows, time)) < 0.05] = np.nan
    lengths = generator.integers(1, time, rows, endpoint=True).astype(np.int32)
    past_target[np.arange(rows), lengths - 1] = 1.0
    return {"past_target": past_target, "sequence_lens": lengths}


@pytest.fixture(scope="module", params=["starter", "lstm", "gru"])
def model(request: pytest.FixtureRequest) -> bytes:
    return STARTER.read_bytes() if request.param == "starter" else tiny_artifact(cell=request.param)


def test_cuda_is_found() -> None:
    assert cuda_is_usable()


def test_golden_case_passes_on_cuda(model: bytes) -> None:
    engine = OrtEngine.from_bytes(model, "cuda")
    assert engine.providers[0] == "CUDAExecutionProvider"
    engine.check_golden_case()


def test_forecasts_equal_those_of_the_cpu(model: bytes) -> None:
    cuda, cpu = (OrtEngine.from_bytes(model, device) for device in ("cuda", "cpu"))
    batch = ragged_batch(64, min(400, cpu.card.context_length))
    got, want = (engine.run(batch, ["quantiles"])["quantiles"] for engine in (cuda, cpu))
    assert relative_error(got, want) < RELATIVE_LIMIT


def test_plain_model_is_read_as_on_the_cpu() -> None:
    cuda, cpu = (load_engine(lstm_model(), device).interface for device in ("cuda", "cpu"))
    assert cuda == cpu


def test_row_alone_equals_the_row_in_a_batch(model: bytes) -> None:
    engine = OrtEngine.from_bytes(model, "cuda")
    batch = ragged_batch(32, min(400, engine.card.context_length))
    together = engine.run(batch, ["quantiles"])["quantiles"]
    for row, length in enumerate(batch["sequence_lens"]):
        alone = {
            "past_target": batch["past_target"][row : row + 1, :length],
            "sequence_lens": batch["sequence_lens"][row : row + 1],
        }
        single = engine.run(alone, ["quantiles"])["quantiles"]
        assert relative_error(single, together[row : row + 1]) < RELATIVE_LIMIT


def test_bound_runs_equal_plain_runs_in_every_size(model: bytes) -> None:
    plain, bound = (
        OrtEngine.from_bytes(model, "cuda"),
        load_engine(model, "cuda", has_bindings=True),
    )
    for rows, time in ((3, 20), (64, 48), (1, 1), (17, 33)):
        batch = ragged_batch(rows, time)
        got, want = (engine.run(batch, ["quantiles"])["quantiles"] for engine in (bound, plain))
        assert relative_error(got, want) < RELATIVE_LIMIT


def test_memory_is_locked_in_its_place(model: bytes) -> None:
    OrtEngine.from_bytes(model, "cuda")
    assert lock_pages(make_buffer(100_000))


def test_run_that_is_padded_to_a_bucket_gives_the_same_numbers(model: bytes) -> None:
    engine = OrtEngine.from_bytes(model, "cuda")
    batch, buckets = ragged_batch(13, 37), Buckets(engine.interface, 64)
    padded = buckets.cut(engine.run(buckets.pad(batch), ["quantiles"]), batch)["quantiles"]
    assert relative_error(padded, engine.run(batch, ["quantiles"])["quantiles"]) < RELATIVE_LIMIT


def test_runs_at_the_same_time_give_their_own_numbers(model: bytes) -> None:
    engine = load_engine(model, "cuda", has_bindings=True)
    batches = [ragged_batch(1 + n, 5 + n) for n in range(24)]
    with ThreadPoolExecutor(2) as threads:
        got = list(threads.map(lambda batch: engine.run(batch, ["quantiles"]), batches))
    for batch, own in zip(batches, got, strict=True):
        want = engine.run(batch, ["quantiles"])["quantiles"]
        assert relative_error(own["quantiles"], want) < RELATIVE_LIMIT


def test_limit_of_memory_is_told_as_such_and_smaller_runs_go_on() -> None:
    engine = load_engine(lstm_model(), "cuda", gpu_mem_limit_bytes=32 * 2**20)
    (spec,) = engine.interface.required_inputs

    def inputs(rows: int, time: int) -> Tensors:
        sizes = {"batch": rows, "time": time}
        shape = [sizes[n] if isinstance(n, str) else n for n in spec.shape]
        lengths = np.full(rows, time, np.int32)
        return {spec.name: np.ones(shape, np.float32), str(engine.interface.lengths): lengths}

    outputs = [output.name for output in engine.interface.outputs]
    with pytest.raises(OutOfMemoryError):
        engine.run(inputs(20_000, 500), outputs)
    assert engine.run(inputs(2, 5), outputs)
