"""What keeps streams: the interface of its two kinds, and what a stream is.

A stream is the tail of its values, their number and its last answers. What it was is remembered
for a while after it expired, so that nobody takes it for one that never was.
"""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.gateway.stream_covariates import StreamCovariates

MAX_ANSWERS = 8
"""Most answers that are kept of one stream."""

UNKNOWN_STREAM = "there is no such stream; PUT it with its history"
STREAM_MOVED = "the stream was changed by another request meanwhile"


@dataclass(frozen=True, slots=True)
class StreamKey:
    """Whose stream it is, for which model, and its name."""

    owner: str
    model_name: str
    stream_id: str


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream.

    Attributes:
        step: Values so far.
        tail: The newest of them, ``(num_kept,)``, NaN where missing.
        start: Time stamp of the very first value, as it was given.
        freq: Their spacing, as it was given.
        covariates: Of the values in the tail, and ahead of them.
        updated_at: Seconds since 1970.
    """

    step: int
    tail: NDArray[np.float32]
    start: str | None
    freq: str | None
    covariates: StreamCovariates = field(default_factory=StreamCovariates)
    updated_at: float = 0.0

    @property
    def num_dropped(self) -> int:
        """Values before the tail."""
        return self.step - len(self.tail)


class StreamStore(Protocol):
    """All streams of a service, or of several that share them.

    Every method but ``close`` may also raise ``StreamStoreError``: the store does not answer. What
    was to be written is then written in full or not at all.
    """

    async def get(self, key: StreamKey) -> Stream:
        """Return a stream.

        Raises:
            StreamNotFoundError: There is none of that name.
            StreamLostError: There was one, or there may have been.
        """
        ...

    async def put(self, key: StreamKey, stream: Stream) -> bool:
        """Begin a stream, in place of one of the same name; return whether there was none.

        Raises:
            StreamLimitError: The owner has as many as it may have.
        """
        ...

    async def append(
        self, key: StreamKey, before: Stream, after: Stream, *, digest: bytes, answer: bytes
    ) -> None:
        """Move a stream on, with the answer that was made.

        Args:
            key: The stream.
            before: As it was read.
            after: As it is to be.
            digest: SHA-256 of what was asked.
            answer: What was answered.

        Raises:
            StreamConflictError: It was moved on by another request meanwhile, or is gone.
        """
        ...

    async def find_answer(self, key: StreamKey, step: int) -> tuple[bytes, bytes] | None:
        """Return the digest of what was asked at ``step`` and the answer, if they are kept."""
        ...

    async def read_page(
        self, owner: str, model_name: str, *, after: str, limit: int
    ) -> list[tuple[str, Stream]]:
        """Return streams of one owner and model, by id, those behind ``after``."""
        ...

    async def delete(self, key: StreamKey) -> None:
        """Forget a stream, as if it had never been.

        Raises:
            StreamNotFoundError: There is none of that name.
            StreamLostError: There was one, or there may have been.
        """
        ...

    async def close(self) -> None:
        """Give back what the store holds."""
        ...


def limit_message(max_streams: int) -> str:
    """Say that an owner has as many streams as it may have."""
    return f"an API key may have at most {max_streams} streams"
