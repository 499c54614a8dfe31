"""``config.toml`` beside the versions of a model: what differs for this model alone.

All of it is optional; a model without the file is served by the settings of the service, its newest
sound version alone.
"""

import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.errors import ConfigError, ModelNotFoundError
from app.settings import Settings

CONFIG_FILE = "config.toml"
LABEL_PATTERN = r"[A-Za-z][A-Za-z0-9_.-]{0,63}"
STABLE = "stable"
"""The label whose version gets what the shares leave."""

_MAX_FILE_BYTES = 2**16

Version = Annotated[int, Field(ge=1, lt=10**18)]
Label = Annotated[str, Field(pattern=f"^{LABEL_PATTERN}$")]
GpuNumber = Annotated[int, Field(ge=0, lt=256)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class VersionPolicy(_Strict):
    """Which versions are served beside those that labels name; one of the three fields.

    Attributes:
        latest: So many of the newest sound ones, without those that have a share of the traffic.
        all: Every one.
        named: These.
    """

    latest: Annotated[int, Field(ge=1)] | None = None
    all: Literal[True] | None = None
    named: Annotated[list[Version], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _check_choice(self) -> Self:
        if [self.latest, self.all, self.named].count(None) != 2:  # noqa: PLR2004 - of three
            raise ValueError("must have one of latest, all and named")
        return self


class LimitOverrides(_Strict):
    """Settings of the service that are other ones for this model."""

    max_batch_size: Annotated[int, Field(ge=1)] | None = None
    max_batch_steps: Annotated[int, Field(ge=1)] | None = None
    max_padding_share: Annotated[float, Field(ge=0, lt=1)] | None = None
    max_queue_delay_ms: Annotated[float, Field(ge=0)] | None = None
    max_queue_steps: Annotated[int, Field(ge=1)] | None = None
    max_queue_wait_ms: Annotated[float, Field(gt=0)] | None = None
    priority_levels: Annotated[int, Field(ge=1, le=100)] | None = None


class ModelConfig(LimitOverrides):
    """The whole file.

    Attributes:
        device: Where this model runs; ``auto`` is where the service runs.
        devices: Numbers of the GPUs that hold it where the service runs on CUDA; None: all.
        keeps_states: Whether runners keep the states behind its recent histories.
        versions: Which versions are served.
        labels: Names of versions; these are always served.
        traffic: Share of the requests without a version that each label gets.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: Annotated[list[GpuNumber], Field(min_length=1)] | None = None
    keeps_states: bool = True
    versions: VersionPolicy = VersionPolicy(latest=1)
    labels: dict[Label, Version] = {}
    traffic: dict[Label, Share] = {}

    @model_validator(mode="after")
    def _check_traffic(self) -> Self:
        if unknown := self.traffic.keys() - self.labels.keys():
            raise ValueError(f"traffic: {min(unknown)} is not among the labels")
        if STABLE in self.traffic:
            raise ValueError(f"traffic: {STABLE} gets what the other shares leave, so it has none")
        if sum(self.traffic.values()) > 1:
            raise ValueError("traffic: the shares are more than 1 together")
        return self

    @model_validator(mode="after")
    def _check_devices(self) -> Self:
        if self.devices is None:
            return self
        if len(set(self.devices)) < len(self.devices):
            raise ValueError("devices: no GPU may be named twice")
        if self.device == "cpu":
            raise ValueError("devices: these are GPUs, but device is cpu")
        return self

    @cached_property
    def shared_versions(self) -> frozenset[int]:
        """Versions that have a share of the traffic, be it 0."""
        return frozenset(self.labels[label] for label in self.traffic)

    def for_model(self, settings: Settings) -> Settings:
        """Return the settings as they are for this model."""
        return settings.model_copy(update=self._overrides) if self._overrides else settings

    @cached_property
    def _overrides(self) -> dict[str, Any]:
        return {
            name: value
            for name in LimitOverrides.model_fields
            if (value := getattr(self, name)) is not None
        }

    def labelled(self, change: "LabelChange") -> "ModelConfig":
        """Return the same with one label changed.

        Raises:
            ConfigError: What would be is wrong.
            ModelNotFoundError: A label that is to be removed is not there.
        """
        labels, traffic = dict(self.labels), dict(self.traffic)
        if change.version is None:
            if labels.pop(change.label, None) is None:
                raise ModelNotFoundError("the model has no such label")
            traffic.pop(change.label, None)
        else:
            labels[change.label] = change.version
            if change.share is not None:
                traffic[change.label] = change.share
        content = self.model_dump(exclude_unset=True) | {"labels": labels, "traffic": traffic}
        return _validate(content)


@dataclass(frozen=True, slots=True)
class LabelChange:
    """A label for a version, or the removal of the label where ``version`` is None.

    ``share`` is the label's share of the requests without a version; None leaves it as it is.
    """

    label: str
    version: int | None
    share: float | None = None


def load_config(model_directory: Path) -> ModelConfig:
    """Read ``config.toml`` of a model; without the file nothing differs.

    Raises:
        ConfigError: The file is wrong; the message is one line that names the place.
    """
    try:
        with (model_directory / CONFIG_FILE).open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return ModelConfig()
    except OSError as error:
        raise ConfigError(f"{CONFIG_FILE}: {error.strerror}") from error
    return parse_config(content)


def parse_config(content: bytes) -> ModelConfig:
    """Read what a ``config.toml`` holds.

    Raises:
        ConfigError: As ``load_config``.
    """
    if len(content) > _MAX_FILE_BYTES:
        raise ConfigError(f"{CONFIG_FILE}: more than {_MAX_FILE_BYTES} bytes")
    try:
        return _validate(tomllib.loads(content.decode()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{CONFIG_FILE}: no TOML: {' '.join(str(error).split())}") from error


def _validate(content: dict[str, Any]) -> ModelConfig:
    try:
        return ModelConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = "".join(f"{part}: " for part in first["loc"] if part != "[key]")
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{CONFIG_FILE}: {place}{message}") from error
