"""What tests of a shelf share: models in folders, and how they are batched."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from app.artifact.directory import MODEL_FILE
from app.interface import Extent
from app.model_config import ModelConfig
from app.runner.batcher import DynamicBatcher
from app.runner.engine import Engine
from app.runner.queue import BatchLimits, PendingRequest, Terms
from app.runner.shelf import ModelShelf
from tests.tiny_artifact import tiny_artifact

LIMITS = BatchLimits(8, 4096, 0.5, 0.25, 100_000, 0.0)


def make_batcher(name: str, version: int, engine: Engine, limits: BatchLimits) -> DynamicBatcher:
    return DynamicBatcher(engine, limits, model_name=name, model_version=version)


def limits_of(config: ModelConfig) -> BatchLimits:
    return replace(LIMITS, max_batch_size=config.max_batch_size or LIMITS.max_batch_size)


def write(directory: Path, version: int, model: bytes | None = None, name: str = "tiny") -> Path:
    path = directory / name / str(version) / MODEL_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tiny_artifact() if model is None else model)
    return path


def make_unreadable(folder: Path) -> None:
    """Put in its place what nobody can read, root included."""
    folder.symlink_to("x" * 300)


def pending(answers: list[object]) -> PendingRequest:
    """A request of one row that puts its answer among ``answers``."""
    inputs = {
        "past_target": np.array([[1.0, 2.0]], np.float32),
        "sequence_lens": np.array([2], np.int32),
    }
    terms = Terms(time.monotonic(), time.monotonic() + 30)
    extent = Extent(1, 2, 2, frozenset(inputs))
    return PendingRequest(inputs, ["quantiles"], extent, terms, answer=answers.append)


def served(shelf: ModelShelf) -> list[tuple[str, int]]:
    return [(m.model_name, m.model_version) for m in shelf.models() if m.engine is not None]


def configure(models: Path, content: str) -> None:
    (models / "tiny" / "config.toml").write_text(content)
