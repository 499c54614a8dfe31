"""Sequences to be classified, regressed or tagged, and the answers as frozen values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar, cast

from gatecast_client.answers import SeriesError
from gatecast_client.requests import Values, model_path, plain

Steps = Sequence[float | None] | Sequence[Values]
"""One number for each step, or one list of numbers, for each feature one."""

_Prediction = TypeVar("_Prediction")


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSequence:
    """One sequence; a missing value is None or NaN.

    Attributes:
        values: Its steps, first one first, with the features in the order of the model's card.
        features: The same by name, one number for each step, in place of ``values``.
        item_id: Name; comes back.
    """

    values: Steps | None = None
    features: Mapping[str, Values] | None = None
    item_id: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the sequence as the service reads it."""
        content: dict[str, Any] = {} if self.item_id is None else {"item_id": self.item_id}
        if self.values is not None:
            content["values"] = [_plain_step(step) for step in self.values]
        if self.features is not None:
            content["features"] = {name: plain(values) for name, values in self.features.items()}
        return content


@dataclass(frozen=True, slots=True)
class SequenceClass:
    """The likeliest class of one sequence and all probabilities, or its error."""

    item_id: str | None
    class_name: str | None
    probabilities: Mapping[str, float]
    error: SeriesError | None

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read one entry of ``predictions``."""
        return cls(
            item_id=content.get("item_id"),
            class_name=content.get("class"),
            probabilities=dict(content.get("probabilities", {})),
            error=SeriesError.from_json(content.get("error")),
        )


@dataclass(frozen=True, slots=True)
class SequenceValues:
    """Numbers that belong to one sequence, by target, or its error."""

    item_id: str | None
    values: Mapping[str, float]
    error: SeriesError | None

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read one entry of ``predictions``."""
        return cls(
            item_id=content.get("item_id"),
            values=dict(content.get("values", {})),
            error=SeriesError.from_json(content.get("error")),
        )


@dataclass(frozen=True, slots=True)
class SequenceTags:
    """The likeliest class of each step of one sequence and all probabilities, or its error."""

    item_id: str | None
    classes: tuple[str, ...]
    probabilities: Mapping[str, list[float]]
    error: SeriesError | None

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read one entry of ``predictions``."""
        return cls(
            item_id=content.get("item_id"),
            classes=tuple(content.get("classes", ())),
            probabilities={k: list(v) for k, v in content.get("probabilities", {}).items()},
            error=SeriesError.from_json(content.get("error")),
        )


@dataclass(frozen=True, slots=True)
class Predictions(Generic[_Prediction]):
    """Answers in the order of the request."""

    model_name: str
    model_version: int
    predictions: tuple[_Prediction, ...]

    @classmethod
    def from_json(
        cls, content: Mapping[str, Any], read: Callable[[Mapping[str, Any]], _Prediction]
    ) -> Self:
        """Read the answer to a request, each of its ``predictions`` by ``read``."""
        return cls(
            model_name=content["model_name"],
            model_version=content["model_version"],
            predictions=tuple(read(one) for one in content["predictions"]),
        )


def task_body(sequences: Sequence[InputSequence | Steps]) -> dict[str, Any]:
    """Return the body of a request; plain steps are a sequence too."""
    given = [
        one if isinstance(one, InputSequence) else InputSequence(values=one) for one in sequences
    ]
    return {"sequences": [one.to_json() for one in given]}


def task_path(model_name: str, model_version: int | None, task: str) -> str:
    """Return where a model answers a task."""
    return f"{model_path(model_name, model_version)}/{task}"


def _plain_step(step: float | Values | None) -> float | list[float | None] | None:
    """Write a number, or those of a list or array, as Python's, NaN as None."""
    is_list = hasattr(step, "__len__") and getattr(step, "ndim", None) != 0
    return plain(cast("Values", step)) if is_list else plain([cast("float | None", step)])[0]
