"""A small untrained forecaster and its artifact, made by the real exporter, for tests."""

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from app.artifact.card import Training
from export.publish import to_artifact
from models.checkpoint import Checkpoint
from models.config import NetworkConfig
from models.forecaster import Forecaster

shared: list[Path] = []
"""Folder of the artifacts that the processes of one test run share, where there are several."""

_SEED = 7
_TINY: dict[str, Any] = {
    "horizon": 6,
    "season": 12,
    "window": 12,
    "num_cycles": 3,
    "hidden_size": 8,
    "quantile_levels": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
}

COVARIATES: dict[str, Any] = {
    "past_covariates": ("price",),
    "future_covariates": ("holiday", "promotion"),
    "static_covariates": ("size", "region"),
    "static_categories": (("north", "south"),),
    "calendar_features": ("month_sin", "month_cos"),
}
"""Every kind of covariate, as fields of ``NetworkConfig``."""

WITH_COVARIATES: dict[str, Any] = {
    "cell": "lstm",
    "num_layers": 1,
    "transform": "log",
    "season": 4,
    **COVARIATES,
}
"""The one artifact with covariates that tests share; a case of ``tests/export/test_parity.py``."""


def tiny_checkpoint(*, context_length: int = 64, **overrides: Any) -> Checkpoint:
    """Return an untrained monthly forecaster; ``overrides`` are fields of its ``NetworkConfig``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        network = Forecaster(NetworkConfig(**_TINY | overrides)).eval()
        for name, parameter in network.named_parameters():
            if name.endswith("head.outputs.weight"):
                torch.nn.init.normal_(parameter, std=0.3)
    training = Training(
        data_digest="0" * 16, num_series=0, num_observations=0, seed=_SEED, config={}
    )
    return Checkpoint(
        network=network,
        freq="M",
        context_length=context_length,
        training=training,
        description="An untrained forecaster for tests.",
    )


@cache
def tiny_artifact(**overrides: Any) -> bytes:
    """Return the sealed artifact of ``tiny_checkpoint``; it takes seconds, once per test run."""
    if not shared:
        return _export(overrides)
    name = hashlib.sha256(repr(sorted(overrides.items())).encode()).hexdigest()
    path = shared[0] / name
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            path.write_bytes(_export(overrides))
        return path.read_bytes()


def _export(overrides: dict[str, Any]) -> bytes:
    with _without_coverage():
        return to_artifact(tiny_checkpoint(**overrides))


@contextmanager
def _without_coverage() -> Iterator[None]:
    """Export at full speed: traced, PyTorch's exporter takes half as long again."""
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)
