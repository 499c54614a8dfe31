"""The metadata of a model file: JSON of its card and of its golden case."""

from collections.abc import Mapping
from typing import Literal, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from app.artifact.card import Card
from app.artifact.golden_case import GoldenCase
from app.artifact.seal import DIGEST_KEY, UNSEALED_DIGEST
from app.artifact.sequence_card import SequenceCard, SequenceTask
from app.errors import ArtifactError

CARD_KEY = "gatecast.card"
GOLDEN_CASE_KEY = "gatecast.golden_case"

AnyCard = Card | SequenceCard
Task = Literal["forecast"] | SequenceTask

_Content = TypeVar("_Content", bound=BaseModel)


class _Kind(BaseModel):
    """What tells the cards apart."""

    task: str = "forecast"


def to_metadata(card: AnyCard, golden_case: GoldenCase) -> dict[str, str]:
    """Return the metadata of an artifact that is not sealed yet, in a fixed order."""
    return {
        CARD_KEY: card.model_dump_json(),
        GOLDEN_CASE_KEY: golden_case.model_dump_json(),
        DIGEST_KEY: UNSEALED_DIGEST,
    }


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
