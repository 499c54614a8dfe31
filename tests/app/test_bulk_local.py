"""Models run in processes of their own: the same numbers, and nothing left behind."""

import asyncio
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from app.artifact.directory import MODEL_FILE
from app.bulk.local import open_local
from app.errors import ArtifactError, EngineError, ModelNotFoundError
from app.tensors import Tensors
from tests.bulk_runs import EngineForecaster
from tests.e2e.service import write_model
from tests.tiny_sequence_model import tiny_sequence_model

BATCH: Tensors = {
    "past_target": np.arange(40, dtype=np.float32).reshape(2, 20),
    "sequence_lens": np.array([20, 15], np.int32),
}


async def test_processes_give_the_numbers_of_one_session(tiny_repository: Path) -> None:
    model = (tiny_repository / "tiny" / "1" / MODEL_FILE).read_bytes()
    here = await EngineForecaster(model).infer(BATCH)
    async with open_local(tiny_repository, "tiny", workers=2, device="cpu") as forecaster:
        everywhere = await asyncio.gather(*(forecaster.infer(BATCH) for _ in range(6)))
    assert all(found.tobytes() == here.tobytes() for found in everywhere)
    assert forecaster.model.model_version == 1


async def test_process_that_dies_is_an_error(tiny_repository: Path) -> None:
    async with open_local(tiny_repository, "tiny", workers=1, device="cpu") as forecaster:
        for pid in children():
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(EngineError, match="has died"):
            await forecaster.infer(BATCH)


def children() -> list[int]:
    """Return the processes of this one that run models."""
    listing = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return [
        pid
        for pid in map(int, listing.split())
        if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()
    ]


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [
        ("none", None, "holds no model none"),
        ("../tiny", None, "holds no model"),
        ("tiny", 2, "no such version; it has 1"),
    ],
)
async def test_model_that_is_not_there_is_refused(
    tiny_repository: Path, name: str, version: int | None, message: str
) -> None:
    with pytest.raises(ModelNotFoundError, match=message):
        async with open_local(tiny_repository, name, version):
            pass


async def test_damaged_model_is_refused(tmp_path: Path, tiny_repository: Path) -> None:
    path = tmp_path / "tiny" / "1" / MODEL_FILE
    path.parent.mkdir(parents=True)
    path.write_bytes((tiny_repository / "tiny" / "1" / MODEL_FILE).read_bytes()[:-7])
    with pytest.raises(ArtifactError):
        async with open_local(tmp_path, "tiny", workers=1, device="cpu"):
            pass


async def test_model_of_another_task_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path, tiny_sequence_model("tag"), name="phases")
    with pytest.raises(ArtifactError, match="no forecaster: its task is tag"):
        async with open_local(tmp_path, "phases", workers=1, device="cpu"):
            pass
