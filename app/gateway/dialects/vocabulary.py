"""Says in a dialect's own words what the core says in ours."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from app.errors import InvalidInputError, InvalidSeriesError


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """``words`` gives, for a field of ours, the path of theirs, such as ``options/horizon``."""

    words: Mapping[str, str]

    def translate(self, error: InvalidInputError) -> InvalidInputError:
        """Return ``error`` with the dialect's words in its sentence and its pointer."""
        message, pointer = self.sentence(str(error)), self.pointer(error.pointer)
        if isinstance(error, InvalidSeriesError):
            return InvalidSeriesError(message, [self.translate(one) for one in error.refusals])
        return InvalidInputError(message, pointer)

    def pointer(self, pointer: str) -> str:
        """Translate each step of a JSON pointer that is a field of ours."""
        return "/".join(self.words.get(step, step) for step in pointer.split("/"))

    def sentence(self, text: str) -> str:
        """Translate the fields in a sentence, to the last step of their paths."""
        fields = re.compile(rf"\b({'|'.join(self.words)})\b")
        return fields.sub(lambda match: self.words[match[0]].rpartition("/")[2], text)
