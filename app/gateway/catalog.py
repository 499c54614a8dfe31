"""Which models the runners hold, and the version that a request means."""

import hashlib
from dataclasses import dataclass, field
from typing import Generic, Literal, cast, overload

from typing_extensions import TypeVar

from app.artifact.card import Card
from app.artifact.metadata import AnyCard, Task
from app.artifact.sequence_card import SequenceCard, SequenceTask
from app.errors import (
    ModelNotFoundError,
    ModelNotReadyError,
    NoForecasterError,
    WrongTaskError,
)
from app.gateway.runners import ModelVersion, Runners
from app.interface import Interface
from app.model_config import STABLE, ModelConfig

_GOLDEN_SHARE = 0.6180339887498949
"""Its multiples, without their whole parts, fill the range from 0 to 1 as evenly as can be."""


_Card_co = TypeVar("_Card_co", bound=AnyCard | None, default=AnyCard | None, covariant=True)


@dataclass(frozen=True, slots=True)
class ReadyModel(Generic[_Card_co]):
    """One version that can be run; ``card`` is None where it is served as tensors alone."""

    model_name: str
    model_version: int
    interface: Interface
    card: _Card_co
    digest: str = ""
    config: ModelConfig = field(default_factory=ModelConfig)


Forecaster = ReadyModel[Card]
"""One version that makes forecasts."""
SequenceModel = ReadyModel[SequenceCard]
"""One version that classifies, regresses or tags."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model with all its versions, oldest first."""

    model_name: str
    versions: tuple[ModelVersion, ...]

    @property
    def config(self) -> ModelConfig:
        """How it is served."""
        return self.versions[-1].config

    @property
    def default(self) -> ModelVersion:
        """What a request without a version means, where no label has a share of these.

        It is the version that ``stable`` names, else the newest ready one without a share, else the
        newest ready one, else the newest.
        """
        config = self.config
        ready = [version for version in self.versions if version.is_ready]
        stable = [v for v in ready if v.model_version == config.labels.get(STABLE)]
        rest = [v for v in ready if v.model_version not in config.shared_versions]
        return (stable or rest or ready or self.versions)[-1]

    @property
    def may_forecast(self) -> bool:
        """Whether its default version makes forecasts, or may once it is ready."""
        return not self.default.is_ready or isinstance(self.default.card, Card)

    def labels_of(self, model_version: int) -> list[str]:
        """Return the labels that name a version, in alphabetical order."""
        labels = self.config.labels.items()
        return sorted(label for label, version in labels if version == model_version)

    def share_of(self, model_version: int) -> float:
        """Return the share of the requests without a version that a version gets."""
        config = self.config
        ready = {version.model_version for version in self.versions if version.is_ready}
        shares = {
            label: share for label, share in config.traffic.items() if config.labels[label] in ready
        }
        own = sum(s for label, s in shares.items() if config.labels[label] == model_version)
        if model_version == self.default.model_version:
            own += 1 - sum(shares.values())
        return round(own, 9)

    def find(self, version: str) -> ModelVersion | None:
        """Return the version of a number or label; None where there is none."""
        number = str(self.config.labels.get(version, version))
        return next((v for v in self.versions if str(v.model_version) == number), None)

    def draw(self, turn: float) -> ModelVersion:
        """Return the version that gets a request without one, for a number from 0 up to 1."""
        for label, share in self.config.traffic.items():
            if turn < share:
                version = self.find(label)
                return version if version is not None and version.is_ready else self.default
            turn -= share
        return self.default


class Catalog:
    """Looks models up among the runners.

    Where labels have shares of a model's traffic, requests without a version are dealt out in turn,
    so that any run of them is divided as the shares say, to a request or two; those with equal keys
    go to one version.
    """

    def __init__(self, runners: Runners) -> None:
        self._runners = runners
        self._turns: dict[str, float] = {}
        self._known: list[ModelVersion] = []
        self._ready: dict[tuple[str, str | None], ReadyModel] = {}

    def models(self) -> list[ServedModel]:
        """List all models by name."""
        grouped: dict[str, list[ModelVersion]] = {}
        for version in sorted(self._runners.models(), key=lambda v: v.model_version):
            grouped.setdefault(version.model_name, []).append(version)
        return [ServedModel(name, tuple(grouped[name])) for name in sorted(grouped)]

    def find(self, model_name: str) -> ServedModel:
        """Return one model.

        Raises:
            ModelNotFoundError: There is none of that name.
            ModelNotReadyError: No runner is up, or one that may serve it was never heard of.
        """
        versions = [v for v in self._runners.models() if v.model_name == model_name]
        if versions:
            return ServedModel(model_name, tuple(sorted(versions, key=lambda v: v.model_version)))
        self.check_any()
        if not self._runners.is_complete:
            raise ModelNotReadyError("a runner that may serve this model is not up yet")
        raise ModelNotFoundError("no model of this name is served; GET /v1/models lists them")

    def draw(self, model_name: str, key: str = "") -> str | None:
        """Choose the version of a request that names none; None leaves it to the default.

        Requests of equal keys get the same one, while the shares stay what they are.
        """
        shared = next(
            (v for v in self._runners.models() if v.model_name == model_name and v.config.traffic),
            None,
        )
        if shared is None:
            return None
        if key:
            turn = _turn_of(key)
        else:
            turn = (self._turns.get(model_name, 0.0) + _GOLDEN_SHARE) % 1.0
            self._turns[model_name] = turn
        return str(self.find(model_name).draw(turn).model_version)

    def find_version(self, model_name: str, model_version: str | None) -> ModelVersion:
        """Return one version of a model, by its number or label; None means its default.

        Raises:
            ModelNotFoundError: There is no such model or version.
            ModelNotReadyError: No runner is up, so nobody knows.
        """
        model = self.find(model_name)
        if model_version is None:
            return model.default
        if version := model.find(model_version):
            return version
        numbers = ", ".join(str(version.model_version) for version in model.versions)
        labels = ", ".join(f"{label} ({n})" for label, n in sorted(model.config.labels.items()))
        raise ModelNotFoundError(
            f"model {model_name} has no such version or label; it has {numbers}"
            + (f" and the labels {labels}" if labels else "")
        )

    def find_ready(self, model_name: str, model_version: str | None) -> ReadyModel:
        """Return a version that can be run, by its number or label; None means the default.

        Raises:
            ModelNotFoundError: There is no such model or version.
            ModelNotReadyError: It did not load, or no runner is up.
        """
        known = list(self._runners.models())
        if known != self._known:
            self._known = known
            self._ready.clear()
        found = self._ready.get((model_name, model_version))
        if found is None:
            found = self._find_ready(model_name, model_version)
            self._ready[model_name, model_version] = found
        return found

    def _find_ready(self, model_name: str, model_version: str | None) -> ReadyModel:
        version = self.find_version(model_name, model_version)
        if version.interface is None:
            raise ModelNotReadyError(
                f"model {model_name} version {version.model_version} is not ready: {version.reason}"
            )
        return ReadyModel(
            model_name,
            version.model_version,
            version.interface,
            version.card,
            version.digest,
            version.config,
        )

    @overload
    def find_able(
        self, task: Literal["forecast"], model_name: str, model_version: str | None
    ) -> Forecaster: ...

    @overload
    def find_able(
        self, task: SequenceTask, model_name: str, model_version: str | None
    ) -> SequenceModel: ...

    def find_able(
        self, task: Task, model_name: str, model_version: str | None
    ) -> Forecaster | SequenceModel:
        """Return a version that has the task, by its number or label; None means the default.

        Raises:
            GatecastError: As ``find_ready``.
            NoForecasterError: It was to forecast, and has another task or is served as tensors.
            WrongTaskError: It was to do something else, with the same result.
        """
        model = self.find_ready(model_name, model_version)
        if model.card is None or model.card.task != task:
            refusal = NoForecasterError if task == "forecast" else WrongTaskError
            raise refusal(_say_what_else(model))
        return cast("Forecaster | SequenceModel", model)  # its card has the task

    def check_any(self) -> None:
        """Tell whether anything is served at all.

        Raises:
            ModelNotReadyError: No runner is up, or the repository is empty.
        """
        if not self._runners.models():
            raise ModelNotReadyError("no runner is up yet, or it serves no model")


def unready_reason(runners: Runners) -> str:
    """Say why no forecast can be made; empty where one can."""
    if not runners.is_ready:
        return "no runner is up"
    if not any(version.is_ready for version in runners.models()):
        return "no model is ready"
    return ""


def _say_what_else(model: ReadyModel) -> str:
    subject = f"model {model.model_name} version {model.model_version}"
    if model.card is None:
        return (
            f"{subject} has no card: it takes and gives tensors,"
            f" at /v2/models/{model.model_name}/infer"
        )
    task = model.card.task
    return f"the task of {subject} is {task}: POST to /v1/models/{model.model_name}/{task}"


def _turn_of(key: str) -> float:
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
