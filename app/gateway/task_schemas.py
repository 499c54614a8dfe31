"""Bodies of the routes that classify, regress and tag; they decode and document, as forecasts'."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType, field

from app.gateway.forecast_schemas import MAX_ITEM_ID_LENGTH, SeriesError, Values

Probability = Annotated[float, Meta(ge=0, le=1)]


class InputSequence(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """One sequence; either `values` or `features` is there."""

    values: Annotated[
        list[float | list[float | None] | None] | None,
        Meta(
            description="One list for each step, first one first, with a number for each of the"
            " model's features in their order; null where missing. For a model of one feature, also"
            " one number for each step."
        ),
    ] = None
    features: Annotated[
        dict[str, Values] | None,
        Meta(description="The same by name: one number for each step, null where missing."),
    ] = None
    item_id: Annotated[
        Annotated[str, Meta(max_length=MAX_ITEM_ID_LENGTH)] | None,
        Meta(description="Name of the sequence; comes back in the answer."),
    ] = None


class TaskRequest(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Sequences to be classified, regressed or tagged."""

    sequences: Annotated[
        list[InputSequence], Meta(min_length=1, description="Answered in this order.")
    ]


class SequenceClass(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Class of one sequence; either `class` or `error` is there."""

    item_id: str | UnsetType = UNSET
    class_name: Annotated[str | UnsetType, Meta(description="The likeliest class.")] = field(
        default=UNSET, name="class"
    )
    probabilities: Annotated[
        dict[str, Probability] | UnsetType, Meta(description="By class; they add up to 1.")
    ] = UNSET
    error: SeriesError | UnsetType = UNSET


class SequenceValues(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Numbers of one sequence; either `values` or `error` is there."""

    item_id: str | UnsetType = UNSET
    values: Annotated[dict[str, float] | UnsetType, Meta(description="By target.")] = UNSET
    error: SeriesError | UnsetType = UNSET


class SequenceTags(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Classes of the steps of one sequence; either `classes` or `error` is there."""

    item_id: str | UnsetType = UNSET
    classes: Annotated[
        list[str] | UnsetType, Meta(description="The likeliest class of each step.")
    ] = UNSET
    probabilities: Annotated[
        dict[str, list[Probability]] | UnsetType,
        Meta(description="By class, one for each step; those of a step add up to 1."),
    ] = UNSET
    error: SeriesError | UnsetType = UNSET


class ClassifyResponse(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Classes in the order of the request."""

    model_name: str
    model_version: int
    predictions: list[SequenceClass]


class RegressResponse(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Numbers in the order of the request."""

    model_name: str
    model_version: int
    predictions: list[SequenceValues]


class TagResponse(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Classes of steps in the order of the request."""

    model_name: str
    model_version: int
    predictions: list[SequenceTags]
