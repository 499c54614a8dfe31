"""Which models the runners hold, and the version that a request means."""

from dataclasses import dataclass

from app.artifact import Card
from app.errors import ModelNotFoundError, ModelNotReadyError, NoForecasterError
from app.gateway.runner_client import ModelVersion, Runners
from app.interface import Interface


@dataclass(frozen=True, slots=True)
class ReadyModel:
    """One version that can be run; ``card`` is None where it is served as tensors alone."""

    model_name: str
    model_version: int
    interface: Interface
    card: Card | None = None
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Forecaster:
    """One version that can make forecasts."""

    model_name: str
    model_version: int
    interface: Interface
    card: Card
    digest: str = ""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model with all its versions, oldest first."""

    model_name: str
    versions: tuple[ModelVersion, ...]

    @property
    def default(self) -> ModelVersion:
        """What a request without a version means: the newest that is ready, else the newest."""
        ready = [version for version in self.versions if version.is_ready]
        return (ready or self.versions)[-1]


class Catalog:
    """Looks models up among the runners."""

    def __init__(self, runners: Runners) -> None:
        self._runners = runners
        self._known: list[ModelVersion] = []
        self._ready: dict[tuple[str, int | None], ReadyModel] = {}

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
            ModelNotReadyError: No runner is up, so nobody knows.
        """
        versions = [v for v in self._runners.models() if v.model_name == model_name]
        if versions:
            return ServedModel(model_name, tuple(sorted(versions, key=lambda v: v.model_version)))
        self.check_any()
        raise ModelNotFoundError("no model of this name is served; GET /v1/models lists them")

    def find_version(self, model_name: str, model_version: int | None) -> ModelVersion:
        """Return one version of a model; None means its default.

        Raises:
            ModelNotFoundError: There is no such model or version.
            ModelNotReadyError: No runner is up, so nobody knows.
        """
        model = self.find(model_name)
        if model_version is None:
            return model.default
        for version in model.versions:
            if version.model_version == model_version:
                return version
        numbers = ", ".join(str(version.model_version) for version in model.versions)
        raise ModelNotFoundError(f"model {model_name} has no such version; it has {numbers}")

    def find_ready(self, model_name: str, model_version: int | None) -> ReadyModel:
        """Return a version that can be run; None means the default.

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

    def _find_ready(self, model_name: str, model_version: int | None) -> ReadyModel:
        version = self.find_version(model_name, model_version)
        if version.interface is None:
            raise ModelNotReadyError(
                f"model {model_name} version {version.model_version} is not ready: {version.reason}"
            )
        return ReadyModel(
            model_name, version.model_version, version.interface, version.card, version.digest
        )

    def find_forecaster(self, model_name: str, model_version: int | None) -> Forecaster:
        """Return a version that can make forecasts; None means the default.

        Raises:
            GatecastError: As ``find_ready``.
            NoForecasterError: It is served as tensors alone.
        """
        model = self.find_ready(model_name, model_version)
        if model.card is None:
            raise NoForecasterError(
                f"model {model_name} version {model.model_version} has no card: it takes and gives"
                f" tensors, at /v2/models/{model_name}/infer"
            )
        return Forecaster(
            model_name, model.model_version, model.interface, model.card, model.digest
        )

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
