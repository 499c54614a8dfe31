"""The engine against a real artifact."""

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from app.errors import (
    ArtifactError,
    DeviceLostError,
    EngineError,
    ModelOutputError,
    OutOfMemoryError,
)
from app.interface import Interface
from app.runner.engine import OrtEngine
from app.tensors import Tensors
from tests.plain_models import widening_model
from tests.tiny_artifact import tiny_artifact

if TYPE_CHECKING:
    import onnxruntime as ort

MIB = 2**20


@pytest.fixture(scope="module")
def engine() -> OrtEngine:
    return OrtEngine.from_bytes(tiny_artifact(), "cpu")


def batch(rows: int, time: int) -> Tensors:
    return {
        "past_target": np.tile(np.arange(1, time + 1, dtype=np.float32), (rows, 1)),
        "sequence_lens": np.full(rows, time, np.int32),
    }


def test_runs_from_the_initial_state(engine: OrtEngine) -> None:
    quantiles = engine.run(batch(3, 20), ["quantiles"])["quantiles"]
    card = engine.card
    assert quantiles.shape == (3, card.horizon, len(card.quantile_levels))
    assert (np.diff(quantiles, axis=-1) >= 0).all()


def test_golden_case_passes(engine: OrtEngine) -> None:
    engine.check_golden_case()


def test_names_the_provider_that_it_really_runs_on(engine: OrtEngine) -> None:
    assert engine.providers == ["CPUExecutionProvider"]


@pytest.mark.parametrize(("rows", "time"), [(0, 5), (5, 0), (0, 0)])
def test_empty_batch_is_refused_before_it_aborts_the_process(
    engine: OrtEngine, rows: int, time: int
) -> None:
    with pytest.raises(EngineError, match="empty batch"):
        engine.run(batch(rows, time), ["quantiles"])


def test_wrong_type_is_an_engine_error(engine: OrtEngine) -> None:
    inputs = batch(1, 5) | {"sequence_lens": np.array([5], np.int64)}
    with pytest.raises(EngineError, match="model run failed"):
        engine.run(inputs, ["quantiles"])


def test_numbers_that_are_not_finite_are_not_passed_on(engine: OrtEngine) -> None:
    broken = batch(1, 5) | {"past_target": np.full((1, 5), np.inf, np.float32)}
    with pytest.raises((ModelOutputError, EngineError)):
        engine.run(broken, ["quantiles"])


def test_cuda_without_cuda_is_refused() -> None:
    with pytest.raises(ArtifactError, match="CUDA"):
        OrtEngine.from_bytes(tiny_artifact(), "cuda")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_truncated_file_is_refused(share: float) -> None:
    model = tiny_artifact()
    with pytest.raises(ArtifactError) as caught:
        OrtEngine.from_bytes(model[: int(share * len(model))], "cpu")
    assert "\n" not in str(caught.value)


def test_every_flipped_bit_is_noticed() -> None:
    model = tiny_artifact()
    for position in np.random.default_rng(0).integers(0, len(model), 200):
        damaged = bytearray(model)
        damaged[position] ^= 1 << int(position) % 8
        with pytest.raises(ArtifactError):
            OrtEngine.from_bytes(bytes(damaged), "cpu")


@contextlib.contextmanager
def memory_left(num_bytes: int) -> Iterator[None]:
    """Let this process take so much more memory than it has now."""
    status = Path("/proc/self/status").read_text()
    (used,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmData")]
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (int(used) * 1024 + num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def test_rows_without_room_in_memory_are_told_from_other_failures() -> None:
    engine = OrtEngine.from_bytes(widening_model(16 * MIB), "cpu")
    rows = np.ones((16, 1), np.float32)
    with memory_left(200 * MIB):
        with pytest.raises(OutOfMemoryError):
            engine.run({"x": rows}, ["y"])
        one = engine.run({"x": rows[:1]}, ["y"])["y"]
    np.testing.assert_array_equal(one, [[4 * MIB]])


class FailingSession:
    """A session whose runs end as those on a GPU do when it fails."""

    def __init__(self, message: str) -> None:
        self._message = message

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider"]

    def run(self, *_: object) -> list[Any]:
        raise RuntimeError(self._message)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("BFCArena::AllocateRawInternal Failed to allocate memory for 9 bytes", OutOfMemoryError),
        ("CUDA failure 2: out of memory ; GPU=0 ; expr=cudaMalloc", OutOfMemoryError),
        ("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0", OutOfMemoryError),
        (
            "BFCArena: Available memory of 16 is smaller than requested bytes of 32",
            OutOfMemoryError,
        ),
        (
            "CUDNN failure 4004: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED ; GPU=0",
            OutOfMemoryError,
        ),
        ("CUDA failure 700: an illegal memory access was encountered ; GPU=0", DeviceLostError),
        ("CUDA failure 719: unspecified launch failure ; GPU=0", DeviceLostError),
        ("CUDA failure 98: invalid device function ; GPU=0", EngineError),
        ("Invalid rank for input: past_target", EngineError),
    ],
)
def test_failures_of_a_gpu_are_told_apart(message: str, kind: type[EngineError]) -> None:
    session = cast("ort.InferenceSession", FailingSession(message))
    engine = OrtEngine(session, "", Interface(inputs=(), outputs=()))
    with pytest.raises(EngineError) as failure:
        engine.run(batch(1, 5), ["quantiles"])
    assert type(failure.value) is kind
