"""What is inside a ``model.onnx``: its card, its golden case and the digest that seals both.

An artifact is one self-contained ONNX file in ``<model_repository>/<model_name>/<model_version>/``.
Everything the service must know is JSON in the file's own metadata, so that a rename is the whole
deployment. Training and serving share this module; it needs neither torch nor onnx.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from app.calendar import Frequency
from app.calendar_features import CALENDAR_FEATURES, CalendarFeatures
from app.errors import ArtifactError
from app.holiday_calendar import HolidayCalendar
from app.tensors import DATATYPES, NUMPY_DTYPES, Datatype, Tensors

MODEL_FILE = "model.onnx"
MODEL_NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")

CARD_KEY = "gatecast.card"
GOLDEN_CASE_KEY = "gatecast.golden_case"
DIGEST_KEY = "gatecast.sha256"
UNSEALED_DIGEST = "0" * 64

_PRODUCER = b"gatecast"

# A protobuf map entry: field 1 the key, field 2 (tag 0x12) a value of 64 (0x40) bytes.
_SEAL = re.compile(re.escape(DIGEST_KEY.encode()) + rb"\x12\x40([0-9a-f]{64})")

_Content = TypeVar("_Content", bound=BaseModel)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class TensorSpec(_Frozen):
    """Name, type and shape of a tensor; a dimension is a size or a name, such as ``batch``."""

    name: str
    datatype: Datatype
    shape: tuple[int | str, ...]


class StateSpec(_Frozen):
    """A carried state: input ``name``, output ``next_name``, both of shape ``(batch, *shape)``."""

    name: str
    next_name: str
    datatype: Datatype
    shape: tuple[int, ...]
    initial: float | None
    """The value that fills the state before the first step; None stands for NaN."""

    def initial_tensor(self, batch: int) -> NDArray[Any]:
        """Return the state of ``batch`` series that have not begun."""
        fill = np.nan if self.initial is None else self.initial
        return np.full((batch, *self.shape), fill, NUMPY_DTYPES[self.datatype])


class Accuracy(_Frozen):
    """Measured errors on a test part, beside those of the seasonal naive forecast."""

    data_set: str
    num_series: int
    mase: float
    smape: float
    weighted_quantile_loss: float
    coverage_80: float
    seasonal_naive_mase: float
    seasonal_naive_smape: float
    seasonal_naive_weighted_quantile_loss: float


class Training(_Frozen):
    """Where the weights come from."""

    data_digest: str
    num_series: int
    num_observations: int
    seed: int
    config: dict[str, Any]


class Card(_Frozen):
    """Everything the service must know about a forecaster."""

    format_version: Literal[1] = 1
    task: Literal["forecast"] = "forecast"
    description: str = ""
    cell: Literal["lstm", "gru"]
    num_layers: int
    hidden_size: int
    num_members: int = 1
    """Networks in the file, each of ``num_layers``; the forecast is their mean."""
    transform: Literal["log", "identity", "both"] | None = None
    """Axis that the networks work on; None where the file is older than this field."""
    is_nonnegative: bool = False
    """Whether no forecast is ever negative."""
    freq: str | None
    """Frequency alias the model was trained on; None where time was a plain integer step."""
    season: int
    """Steps in one season, 1 where there is none."""
    horizon: int
    """Most steps ahead."""
    context_length: int
    """Most recent steps that the service gives the model."""
    quantile_levels: tuple[float, ...]
    past_covariates: tuple[str, ...] = ()
    future_covariates: tuple[str, ...] = ()
    static_covariates: tuple[str, ...] = ()
    """Numbers first, then those of ``static_categories``."""
    static_categories: dict[str, tuple[str, ...]] = {}
    """Known texts of each static covariate that is one; in its tensor they count from 1, 0 is any
    other."""
    calendar_features: tuple[str, ...] = ()
    """Columns of the tensor ``future_covariates`` after those that a caller names."""
    holidays: HolidayCalendar | None = None
    inputs: tuple[TensorSpec, ...]
    """Without the states."""
    outputs: tuple[TensorSpec, ...]
    """Without the states."""
    states: tuple[StateSpec, ...]
    training: Training
    accuracy: tuple[Accuracy, ...] = ()
    made_with: dict[str, str]
    """Versions of the libraries that made the file."""

    @field_validator("calendar_features")
    @classmethod
    def _check_features(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in CALENDAR_FEATURES:
                raise ValueError(f"this version of gatecast knows no feature {name}")
        return names

    @property
    def calendar(self) -> CalendarFeatures | None:
        """What the service computes from time stamps; None where the model needs none."""
        if not self.calendar_features or self.freq is None:
            return None
        return CalendarFeatures(self.calendar_features, Frequency.parse(self.freq), self.holidays)


SequenceTask = Literal["classify", "regress", "tag"]
"""One class of a sequence, numbers of a sequence, or one class of each of its steps."""


class TaskAccuracy(_Frozen):
    """A measure of a sequence model on a test part, beside that of a baseline in the same run."""

    data_set: str
    num_sequences: int
    metric: str
    """Its name and unit, for instance ``accuracy`` or ``mean absolute error``."""
    value: float
    baseline: str
    baseline_value: float


class SequenceCard(_Frozen):
    """Everything the service must know about a model that classifies, regresses or tags."""

    format_version: Literal[1] = 1
    task: SequenceTask
    description: str = ""
    cell: Literal["lstm", "gru"]
    num_layers: int
    hidden_size: int
    num_members: int = 1
    """Networks in the file, each of ``num_layers``; the answer comes from their mean."""
    is_bidirectional: bool = False
    pooling: Literal["last", "mean", "max", "attention"] | None
    """How the steps become one answer; None where each has its own."""
    features: tuple[str, ...]
    """Columns of the tensor ``sequence``, in order."""
    classes: tuple[str, ...] = ()
    """What ``probabilities`` count, in order; empty where the model regresses."""
    targets: tuple[str, ...] = ()
    """What ``values`` are, in order; empty where the model does not regress."""
    max_length: int
    """Most steps of a sequence."""
    temperature: float = 1.0
    """What the probabilities were calibrated with; 1 where they were not."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[StateSpec, ...] = Field((), max_length=0)
    """None: a sequence is read as a whole."""
    training: Training
    accuracy: tuple[TaskAccuracy, ...] = ()
    made_with: dict[str, str]
    """Versions of the libraries that made the file."""

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        if not self.features or len({*self.features}) != len(self.features):
            raise ValueError("features must be names, each once")
        names, others = self.classes, self.targets
        if self.task == "regress":
            names, others = others, names
        if not names or others or len({*names}) != len(names):
            raise ValueError("classes, or where the model regresses targets, must be named once")
        if (self.pooling is None) != (self.task == "tag"):
            raise ValueError("a model has a pooling, unless it tags")
        return self

    @model_validator(mode="after")
    def _check_tensors(self) -> Self:
        pairs = (self.inputs, self._wanted_inputs), (self.outputs, self._wanted_outputs)
        for given, wanted in pairs:
            if {spec.name: spec for spec in given} != {spec.name: spec for spec in wanted}:
                names = ", ".join(f"{spec.name} {spec.datatype} {spec.shape}" for spec in wanted)
                raise ValueError(f"the tensors of this task must be {names}")
        return self

    @property
    def _wanted_inputs(self) -> tuple[TensorSpec, ...]:
        shape = ("batch", "time", len(self.features))
        return (
            TensorSpec(name="sequence", datatype="FP32", shape=shape),
            TensorSpec(name="sequence_lens", datatype="INT32", shape=("batch",)),
        )

    @property
    def _wanted_outputs(self) -> tuple[TensorSpec, ...]:
        if self.task == "regress":
            shape: tuple[int | str, ...] = ("batch", len(self.targets))
            return (TensorSpec(name="values", datatype="FP32", shape=shape),)
        steps = ("time",) if self.task == "tag" else ()
        shape = ("batch", *steps, len(self.classes))
        return (TensorSpec(name="probabilities", datatype="FP32", shape=shape),)


AnyCard = Card | SequenceCard


class _Kind(BaseModel):
    """What tells the cards apart."""

    task: str = "forecast"


class TensorValue(_Frozen):
    """One tensor with its numbers, little-endian in base64."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    data: str

    @classmethod
    def from_array(cls, name: str, array: NDArray[Any]) -> Self:
        """Wrap ``array``, which must have one of the types in ``NUMPY_DTYPES``."""
        data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
        return cls(name=name, datatype=DATATYPES[array.dtype], shape=array.shape, data=data)

    def to_array(self) -> NDArray[Any]:
        """Return the numbers in their shape.

        Raises:
            ArtifactError: There are more of them, or fewer, or they are no numbers.
        """
        try:
            flat = np.frombuffer(base64.b64decode(self.data), NUMPY_DTYPES[self.datatype])
            return flat.reshape(self.shape)
        except ValueError as error:
            raise ArtifactError(f"golden case: {self.name} is misshapen: {error}") from error


class GoldenCase(_Frozen):
    """Inputs and the outputs they must give on any device, to ``relative_tolerance``."""

    inputs: tuple[TensorValue, ...]
    outputs: tuple[TensorValue, ...]
    relative_tolerance: float = 1e-4

    @classmethod
    def from_tensors(cls, inputs: Tensors, outputs: Tensors) -> Self:
        """Record one run."""
        return cls(
            inputs=tuple(TensorValue.from_array(n, a) for n, a in inputs.items()),
            outputs=tuple(TensorValue.from_array(n, a) for n, a in outputs.items()),
        )

    def input_tensors(self) -> Tensors:
        """Return the inputs by name."""
        return {value.name: value.to_array() for value in self.inputs}

    def check(self, outputs: Tensors) -> None:
        """Compare a replay with the record.

        Raises:
            ArtifactError: An output is missing or differs by more than the tolerance.
        """
        for value in self.outputs:
            want = value.to_array()
            got = outputs.get(value.name)
            if got is None or got.shape != want.shape:
                raise ArtifactError(f"golden case: output {value.name} is missing or misshapen")
            error = relative_error(got, want)
            if not error <= self.relative_tolerance:
                raise ArtifactError(
                    f"golden case: output {value.name} is off by {error:.1e}"
                    f" (limit {self.relative_tolerance:.0e})"
                )


def relative_error(got: NDArray[Any], want: NDArray[Any], *, floor_share: float = 0.1) -> float:
    """Largest difference relative to the size of the numbers beside it; NaN equals NaN.

    Each difference is divided by the larger of its own magnitude and ``floor_share`` of the largest
    magnitude in the same row (axis 0): float32 sums round in proportion to their largest terms, so
    the last digits of a number near zero, in a forecast that crosses it, are noise.
    """
    got64, want64 = got.astype(np.float64), want.astype(np.float64)
    if not np.array_equal(np.isnan(got64), np.isnan(want64)):
        return float("inf")
    got64, want64 = np.nan_to_num(got64), np.nan_to_num(want64)
    if not want64.size:
        return 0.0
    rows = np.abs(want64).reshape(len(want64), -1).max(axis=1)
    floor = (floor_share * rows).reshape(-1, *[1] * (want64.ndim - 1))
    size = np.maximum(np.maximum(np.abs(want64), floor), 1e-12)
    return float((np.abs(got64 - want64) / size).max())


def to_metadata(card: AnyCard, golden_case: GoldenCase) -> dict[str, str]:
    """Return the metadata of an artifact that is not sealed yet, in a fixed order."""
    return {
        CARD_KEY: card.model_dump_json(),
        GOLDEN_CASE_KEY: golden_case.model_dump_json(),
        DIGEST_KEY: UNSEALED_DIGEST,
    }


def seal(model: bytes) -> bytes:
    """Write the digest of an unsealed ``model`` into it.

    Raises:
        ArtifactError: The model lacks the placeholder of ``to_metadata``.
    """
    digest = _digest(model)
    return model.replace(UNSEALED_DIGEST.encode(), digest.encode(), 1)


def is_plain_model(model: bytes) -> bool:
    """Whether ``model`` never was an artifact.

    The exporter writes its name at the very beginning, and the names of its metadata keys at the
    end: no truncation and no single damaged byte hides both.
    """
    return _PRODUCER not in model


def check_seal(model: bytes) -> str:
    """Return the digest inside ``model`` if it is that of its bytes.

    Raises:
        ArtifactError: There is no digest, or a bit of the file has changed.
    """
    match = _SEAL.search(model)
    if match is None:
        raise ArtifactError("not a gatecast artifact, or truncated: no digest inside")
    found = match[1].decode()
    if found != _digest(model):
        raise ArtifactError("damaged: the file does not match the digest inside it")
    return found


def _digest(model: bytes) -> str:
    matches = list(_SEAL.finditer(model))
    if len(matches) != 1:
        raise ArtifactError("not a gatecast artifact: it must hold exactly one digest")
    start, stop = matches[0].span(1)
    return hashlib.sha256(model[:start] + UNSEALED_DIGEST.encode() + model[stop:]).hexdigest()


def read_card(text: str) -> AnyCard:
    """Read the JSON of a card; its ``task`` says of which kind it is.

    Raises:
        ArtifactError: It is not of this format.
    """
    if _read(_Kind, text, CARD_KEY).task in get_args(SequenceTask):
        return _read(SequenceCard, text, CARD_KEY)
    return _read(Card, text, CARD_KEY)


def load_card(metadata: Mapping[str, str]) -> AnyCard:
    """Read the card.

    Raises:
        ArtifactError: There is none, or it is not of this format.
    """
    return read_card(_find(metadata, CARD_KEY))


def load_golden_case(metadata: Mapping[str, str]) -> GoldenCase:
    """Read the golden case.

    Raises:
        ArtifactError: There is none, or it is not of this format.
    """
    return _read(GoldenCase, _find(metadata, GOLDEN_CASE_KEY), GOLDEN_CASE_KEY)


def _find(metadata: Mapping[str, str], key: str) -> str:
    if key not in metadata:
        raise ArtifactError(f"not a gatecast artifact: no {key} in its metadata")
    return metadata[key]


def _read(kind: type[_Content], text: str, key: str) -> _Content:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ArtifactError(f"{key} is not of this format: {place}: {first['msg']}") from error


def find_versions(model_directory: Path) -> list[int]:
    """List the version numbers in ``<model_repository>/<model_name>``, oldest first.

    Only directories named by a positive integer that hold a model file count.
    """
    if not model_directory.is_dir():
        return []
    return sorted(
        int(entry.name)
        for entry in model_directory.iterdir()
        if re.fullmatch(r"[1-9][0-9]{0,17}", entry.name) and (entry / MODEL_FILE).is_file()
    )
