"""From decoded sequences to rows that a model can run; each wrong one is refused for itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import cast

import numpy as np
from numpy.typing import NDArray

from app.artifact.sequence_card import SequenceCard
from app.errors import InvalidInputError, InvalidSeriesError
from app.gateway.columns import put_in_order, to_numbers
from app.gateway.decoding import OUT_OF_RANGE
from app.gateway.task_schemas import InputSequence, TaskRequest
from app.settings import Settings
from app.tensors import LARGEST_MAGNITUDE, to_float32

_Step = float | list[float | None] | None


@dataclass(frozen=True, slots=True)
class SequenceRow:
    """One sequence as a model takes it: ``(time, num_features)``, NaN where missing."""

    position: int
    values: NDArray[np.float32]

    @property
    def num_steps(self) -> int:
        """Its steps."""
        return len(self.values)


@dataclass(frozen=True, slots=True)
class PreparedSequences:
    """The rows of a request, and why its other sequences, by position, have none."""

    item_ids: tuple[str | None, ...]
    rows: tuple[SequenceRow, ...]
    refusals: Mapping[int, InvalidInputError]


def prepare_sequences(
    request: TaskRequest, card: SequenceCard, settings: Settings
) -> PreparedSequences:
    """Check a request against a model and the limits, and turn its sequences into rows.

    Raises:
        InvalidInputError: Something that concerns all sequences is wrong.
        InvalidSeriesError: No sequence is valid.
    """
    _check_limits(request, card, settings)
    rows: list[SequenceRow] = []
    refusals: dict[int, InvalidInputError] = {}
    for position, sequence in enumerate(request.sequences):
        try:
            rows.append(SequenceRow(position, _to_table(sequence, card, f"/sequences/{position}")))
        except InvalidInputError as error:
            refusals[position] = error
    if len(refusals) == 1 and not rows:
        raise refusals[0]
    if not rows:
        raise InvalidSeriesError(
            f"none of the {len(refusals)} sequences is valid", list(refusals.values())
        )
    item_ids = tuple(sequence.item_id for sequence in request.sequences)
    return PreparedSequences(item_ids, tuple(rows), refusals)


def _check_limits(request: TaskRequest, card: SequenceCard, settings: Settings) -> None:
    if len(request.sequences) > settings.max_series:
        raise InvalidInputError(
            f"sequences may hold at most {settings.max_series} sequences", "/sequences"
        )
    # What a tagging model answers grows with its classes, too.
    limit = settings.max_steps // (len(card.classes) if card.task == "tag" else 1)
    if sum(map(_count_steps, request.sequences)) > limit:
        raise InvalidInputError(
            f"all sequences together may have at most {limit} steps for this model", "/sequences"
        )


def _count_steps(sequence: InputSequence) -> int:
    columns = [sequence.values or (), *(sequence.features or {}).values()]
    return max(map(len, columns))


def _to_table(sequence: InputSequence, card: SequenceCard, pointer: str) -> NDArray[np.float32]:
    if (sequence.values is None) == (sequence.features is None):
        raise InvalidInputError("a sequence must have either values or features", pointer)
    if sequence.values is not None:
        pointer += "/values"
        table = _join_steps(sequence.values, card, pointer)
    else:
        pointer += "/features"
        table = _join_columns(sequence.features, card, pointer)
    if not len(table):
        raise InvalidInputError("a sequence must have at least 1 step", pointer)
    if len(table) > card.max_length:
        raise InvalidInputError(
            f"a sequence may have at most {card.max_length} steps for this model", pointer
        )
    if np.isnan(table).all():
        raise InvalidInputError("a sequence must have at least 1 value that is not null", pointer)
    return table


def _join_columns(
    features: Mapping[str, list[float | None]] | None, card: SequenceCard, pointer: str
) -> NDArray[np.float32]:
    columns = put_in_order(features, card.features, pointer)
    length = len(columns[0][1])
    for place, values in columns:
        if len(values) != length:
            raise InvalidInputError(
                f"must have {length} values, as many as {card.features[0]}", place
            )
    return np.stack([to_numbers(values, place) for place, values in columns], axis=1)


def _join_steps(values: Sequence[_Step], card: SequenceCard, pointer: str) -> NDArray[np.float32]:
    if not values:
        return np.empty((0, len(card.features)), np.float32)
    width = len(card.features)
    is_flat = width == 1 and not isinstance(values[0], list)
    if not is_flat and not _are_lists_of(values, width):
        raise _wrong_step(values, width, pointer)
    steps = values if is_flat else chain.from_iterable(cast("Sequence[list[float | None]]", values))
    try:
        flat = to_float32(cast("list[float | None]", [*steps]))
    except ValueError as error:
        raise _wrong_step(values, None, pointer) from error
    too_large = np.abs(flat) > LARGEST_MAGNITUDE
    if too_large.any():
        step, feature = divmod(int(too_large.argmax()), width)
        place = f"{pointer}/{step}" if is_flat else f"{pointer}/{step}/{feature}"
        raise InvalidInputError(OUT_OF_RANGE, place)
    return flat.reshape(-1, width)


def _are_lists_of(values: Sequence[_Step], width: int) -> bool:
    try:
        return {*map(len, cast("Sequence[list[float | None]]", values))} == {width}
    except TypeError:  # of a number alone
        return False


def _wrong_step(values: Sequence[_Step], width: int | None, pointer: str) -> InvalidInputError:
    """Find the first step that is no list of ``width``; None stands for a number alone."""
    sizes = (len(step) if isinstance(step, list) else None for step in values)
    place = next(place for place, size in enumerate(sizes) if size != width)
    wanted = "a number" if width is None else f"{width} numbers in a list, one for each feature"
    return InvalidInputError(f"each step must be {wanted}", f"{pointer}/{place}")
