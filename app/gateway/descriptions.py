"""``GET /v1/models`` and below: what is served, how good it is, what it takes."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from app.artifact.card import Card
from app.artifact.metadata import AnyCard
from app.artifact.sequence_card import SequenceCard, SequenceTask
from app.gateway.catalog import Catalog, ServedModel
from app.gateway.dialect_table import dialect_routes
from app.gateway.forecast_schemas import MAX_QUANTILE_LEVELS
from app.gateway.parameters import ModelName, VersionOrLabel
from app.gateway.runners import ModelVersion, Runners
from app.settings import Settings


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, protected_namespaces=())


class VersionState(_Answer):
    """One version of a model, and why it is not ready where it is not."""

    model_version: int
    is_ready: bool
    reason: str = Field(description="Why it is not ready; empty where it is.")
    labels: list[str] = Field(description="Names that stand for it in a path.")
    share: float = Field(description="Share that it gets of the requests without a version.")

    @classmethod
    def all_of(cls, model: ServedModel) -> list[Self]:
        """Describe all versions of ``model``."""
        return [
            cls(
                model_version=version.model_version,
                is_ready=version.is_ready,
                reason=version.reason,
                labels=model.labels_of(version.model_version),
                share=model.share_of(version.model_version),
            )
            for version in model.versions
        ]


class ModelSummary(_Answer):
    """One model in the list."""

    model_name: str
    model_version: int = Field(
        description="Version that a request without one gets, but for the shares of others."
    )
    is_ready: bool
    reason: str = Field(description="Why it is not ready; empty where it is.")
    task: Literal["forecast"] | SequenceTask | None = Field(
        description="Last part of the path that it answers; null where it is served below `/v2`"
        " alone."
    )
    makes_forecasts: bool = Field(description="False where it has another task, or none.")
    versions: list[VersionState] = Field(description="All versions, oldest first.")
    freq: str | None = Field(description="Spacing of its series; null where any will do.")
    season: int | None
    horizon: int | None
    context_length: int | None
    quantile_levels: tuple[float, ...]
    past_covariates: tuple[str, ...]
    future_covariates: tuple[str, ...]
    static_covariates: tuple[str, ...]
    features: tuple[str, ...] = Field(
        description="Columns of a sequence, in order; empty for a forecaster."
    )
    classes: tuple[str, ...] = Field(
        description="What it tells apart, where it classifies or tags."
    )
    targets: tuple[str, ...] = Field(description="What it gives numbers of, where it regresses.")
    pooling: str | None = Field(description="How the steps of a sequence become one answer.")
    max_length: int | None = Field(description="Most steps of a sequence.")

    @classmethod
    def from_model(cls, model: ServedModel) -> Self:
        """Describe ``model`` by its default version."""
        version, any_card = model.default, model.default.card
        card = any_card if isinstance(any_card, Card) else None
        sequence_card = any_card if isinstance(any_card, SequenceCard) else None
        return cls(
            model_name=model.model_name,
            model_version=version.model_version,
            is_ready=version.is_ready,
            task=any_card.task if any_card else None,
            makes_forecasts=card is not None,
            reason=version.reason,
            versions=VersionState.all_of(model),
            freq=card.freq if card else None,
            season=card.season if card else None,
            horizon=card.horizon if card else None,
            context_length=card.context_length if card else None,
            quantile_levels=card.quantile_levels if card else (),
            past_covariates=card.past_covariates if card else (),
            future_covariates=card.future_covariates if card else (),
            static_covariates=card.static_covariates if card else (),
            features=sequence_card.features if sequence_card else (),
            classes=sequence_card.classes if sequence_card else (),
            targets=sequence_card.targets if sequence_card else (),
            pooling=sequence_card.pooling if sequence_card else None,
            max_length=sequence_card.max_length if sequence_card else None,
        )


class ModelList(_Answer):
    """All models, by name."""

    models: list[ModelSummary]


class Limits(_Answer):
    """What one forecast request may hold, and how long it may take."""

    max_body_bytes: int = Field(description="Also after decompression.")
    max_series: int
    max_steps: int = Field(description="Values in all series together.")
    max_quantile_levels: int
    max_horizon_factor: int = Field(description="Longest horizon, in horizons of the model.")
    request_timeout_s: float

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Take the limits of the service."""
        return cls(
            max_body_bytes=settings.max_body_bytes,
            max_series=settings.max_series,
            max_steps=settings.max_steps,
            max_quantile_levels=MAX_QUANTILE_LEVELS,
            max_horizon_factor=settings.max_horizon_factor,
            request_timeout_s=settings.request_timeout_s,
        )


class Batching(_Answer):
    """How many series of all requests share a run of a version."""

    max_batch_size: int = Field(description="Most of them, by the settings of the model.")
    max_batch_steps: int = Field(description="Most time steps of them, padded to the longest.")
    batch_size_cap: int | None = Field(
        description="Most of them in the next run: the size beyond which the machine gains nothing,"
        " where it is fitted (`GATECAST_FIT_BATCH_SIZE`). Null until a runner has said it."
    )


class ModelDescription(_Answer):
    """One version: its card with inputs and measured accuracy, and the limits of a request."""

    model_name: str
    model_version: int
    is_ready: bool
    reason: str = Field(description="Why it is not ready; empty where it is.")
    versions: list[VersionState] = Field(description="All versions, oldest first.")
    limits: Limits
    batching: Batching
    dialects: dict[str, list[str]] = Field(
        description="Foreign protocols that are spoken, by name, with their paths."
    )
    card: AnyCard | None = Field(
        discriminator="task",
        description="Null where the version did not load, or is served below `/v2` alone.",
    )


class ModelEndpoints:
    """Answers what is served."""

    def __init__(self, catalog: Catalog, runners: Runners, settings: Settings) -> None:
        self._catalog = catalog
        self._runners = runners
        self._settings = settings
        self._limits = Limits.from_settings(settings)
        self._dialects = dialect_routes(settings)

    async def list_models(self) -> ModelList:
        """List all models with the version that a request without one gets."""
        return ModelList(models=[ModelSummary.from_model(m) for m in self._catalog.models()])

    async def describe_model(self, model_name: ModelName) -> ModelDescription:
        """Describe a model by its default version."""
        return self._describe(self._catalog.find_version(model_name, None))

    async def describe_version(
        self, model_name: ModelName, model_version: VersionOrLabel
    ) -> ModelDescription:
        """Describe one version of a model, by its number or label."""
        return self._describe(self._catalog.find_version(model_name, model_version))

    def _describe(self, version: ModelVersion) -> ModelDescription:
        model = self._catalog.find(version.model_name)
        return ModelDescription(
            model_name=version.model_name,
            model_version=version.model_version,
            is_ready=version.is_ready,
            reason=version.reason,
            versions=VersionState.all_of(model),
            limits=self._limits,
            batching=self._batching(version),
            dialects={
                name: [route.path for route in routes] for name, routes in self._dialects.items()
            },
            card=version.card,
        )

    def _batching(self, version: ModelVersion) -> Batching:
        settings = version.config.for_model(self._settings)
        cap = self._runners.batch_size_cap(version.model_name, version.model_version)
        return Batching(
            max_batch_size=settings.max_batch_size,
            max_batch_steps=settings.max_batch_steps,
            batch_size_cap=cap,
        )
