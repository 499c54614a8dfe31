"""Stand-ins at the seams of the gateway."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.artifact.card import Accuracy, Card, Training
from app.artifact.metadata import AnyCard
from app.artifact.sequence_card import SequenceCard, SequenceTask, TaskAccuracy
from app.artifact.specs import TensorSpec
from app.errors import DeadlineExceededError
from app.gateway.runners import ChangeAction, Inference, ModelVersion
from app.gateway.time_limits import TimeLimit
from app.interface import Interface
from app.model_config import LabelChange
from app.runner.engine import Engine
from app.statistics import VersionStatistics
from app.tensors import Tensors

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)


def make_card(**changes: Any) -> Card:
    """Return the card of a monthly model that takes only a target; ``changes`` win."""
    values: dict[str, Any] = {
        "cell": "lstm",
        "num_layers": 1,
        "hidden_size": 4,
        "freq": "M",
        "season": 12,
        "horizon": 12,
        "context_length": 48,
        "quantile_levels": LEVELS,
        "inputs": (
            TensorSpec(name="past_target", datatype="FP32", shape=("batch", "time")),
            TensorSpec(name="sequence_lens", datatype="INT32", shape=("batch",)),
        ),
        "outputs": (
            TensorSpec(name="quantiles", datatype="FP32", shape=("batch", 12, len(LEVELS))),
        ),
        "states": (),
        "training": Training(
            data_digest="0", num_series=3, num_observations=300, seed=1, config={}
        ),
        "accuracy": (
            Accuracy(
                data_set="held back",
                num_series=3,
                mase=0.9,
                smape=0.1,
                weighted_quantile_loss=0.05,
                coverage_80=0.8,
                seasonal_naive_mase=1.1,
                seasonal_naive_smape=0.12,
                seasonal_naive_weighted_quantile_loss=0.07,
            ),
        ),
        "made_with": {"numpy": "2"},
    }
    return Card(**(values | changes))


def make_sequence_card(task: SequenceTask, **changes: Any) -> SequenceCard:
    """Return the card of a model that knows three classes, or two targets; ``changes`` win."""
    names = ("low", "normal", "high")
    features = changes.get("features", ("load", "heat"))
    answers = 2 if task == "regress" else len(changes.get("classes", names))
    steps = ("time",) if task == "tag" else ()
    output = "values" if task == "regress" else "probabilities"
    values: dict[str, Any] = {
        "task": task,
        "cell": "lstm",
        "num_layers": 1,
        "hidden_size": 4,
        "pooling": None if task == "tag" else "last",
        "features": features,
        "classes": () if task == "regress" else names,
        "targets": ("cost", "wear") if task == "regress" else (),
        "max_length": 48,
        "inputs": (
            TensorSpec(name="sequence", datatype="FP32", shape=("batch", "time", len(features))),
            TensorSpec(name="sequence_lens", datatype="INT32", shape=("batch",)),
        ),
        "outputs": (TensorSpec(name=output, datatype="FP32", shape=("batch", *steps, answers)),),
        "training": make_card().training,
        "accuracy": (
            TaskAccuracy(
                data_set="held back",
                num_sequences=3,
                metric="accuracy",
                value=0.9,
                baseline="most frequent class",
                baseline_value=0.4,
            ),
        ),
        "made_with": {"numpy": "2"},
    }
    return SequenceCard(**(values | changes))


def served(model_name: str, model_version: int, card: AnyCard) -> ModelVersion:
    """Return a version that is ready."""
    return ModelVersion(model_name, model_version, Interface.from_card(card), card=card)


def forecaster(model_name: str, model_version: int, card: Card) -> ModelVersion:
    """Return a version that is ready and makes forecasts."""
    return served(model_name, model_version, card)


def drift_forecast(target: NDArray[np.float32], horizon: int, level: float) -> list[float]:
    """Return what ``FakeRunners`` forecasts at ``level``: the last value, one more each step."""
    last = float(target[~np.isnan(target)][-1])
    return [last + step + 1 + (level - 0.5) * len(target) for step in range(horizon)]


class FakeRunners:
    """Runners in this process that forecast by ``drift_forecast``, or with engines of their own.

    Attributes:
        gate: Inferences wait until it is open; it is open at first.
        error: What every inference raises, where it is set.
        room_error: What every look for room raises, where it is set.
        is_complete: Whether no runner is still to tell what it serves.
        inferences: All that were asked for.
        changes: All loads and unloads that were asked for.
        label_changes: The same of labels.
        num_cancelled: How many were cancelled while they waited.
    """

    def __init__(
        self,
        *versions: ModelVersion,
        engine: Engine | None = None,
        engines: Mapping[str, Engine] | None = None,
    ) -> None:
        self.versions: list[ModelVersion] = list(versions)
        self.engines = engines or {}
        self.engine = engine
        self.known_statistics: list[VersionStatistics] = []
        self.batch_size_caps: dict[tuple[str, int], int] = {}
        self.is_up = self.is_complete = True
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.room_error: Exception | None = None
        self.inferences: list[Inference] = []
        self.changes: list[tuple[str, str]] = []
        self.label_changes: list[tuple[str, LabelChange]] = []
        self.num_running = 0
        self.most_running = 0
        self.num_cancelled = 0
        self.arrived = asyncio.Event()

    @property
    def is_ready(self) -> bool:
        return self.is_up

    @property
    def device(self) -> str:
        return "cpu" if self.is_up else ""

    @property
    def num_runners(self) -> int:
        return 1

    def models(self) -> Sequence[ModelVersion]:
        return self.versions if self.is_up else []

    async def statistics(self, timeout_s: float) -> Sequence[VersionStatistics]:
        assert timeout_s > 0
        return self.known_statistics

    async def change(self, action: ChangeAction, model_name: str) -> None:
        if self.error is not None:
            raise self.error
        self.changes.append((action, model_name))

    async def label(self, model_name: str, change: LabelChange) -> None:
        if self.error is not None:
            raise self.error
        self.label_changes.append((model_name, change))

    def batch_size_cap(self, model_name: str, model_version: int) -> int | None:
        return self.batch_size_caps.get((model_name, model_version))

    def check_room(self, model_name: str) -> None:
        assert any(version.model_name == model_name for version in self.versions)
        if self.room_error is not None:
            raise self.room_error

    async def infer(self, inference: Inference) -> Tensors:
        self.inferences.append(inference)
        self.num_running += 1
        self.most_running = max(self.most_running, self.num_running)
        self.arrived.set()
        try:
            with TimeLimit(inference.deadline):
                await self.gate.wait()
            if self.error is not None:
                raise self.error
            return self._run(inference)
        except TimeoutError as error:
            raise DeadlineExceededError("the deadline passed before the answer") from error
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        finally:
            self.num_running -= 1

    def _run(self, inference: Inference) -> Tensors:
        if engine := self.engines.get(inference.model_name, self.engine):
            return engine.run(inference.inputs, inference.outputs)
        card = next(v.card for v in self.versions if v.model_version == inference.model_version)
        assert isinstance(card, Card)
        lengths = inference.inputs["sequence_lens"]
        rows = [
            [drift_forecast(target[:length], card.horizon, level) for level in card.quantile_levels]
            for target, length in zip(inference.inputs["past_target"], lengths, strict=True)
        ]
        return {"quantiles": np.array(rows, np.float32).swapaxes(1, 2)}


class ManualClock:
    """A clock that only moves when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now
