"""Covariates of a stream: they grow with its values and are cut with them."""

from collections.abc import Mapping, Sequence

import msgspec

from app.artifact.card import Card

Values = list[float | None]


class StreamCovariates(msgspec.Struct, frozen=True, omit_defaults=True):
    """By name, as a forecast request takes them.

    Attributes:
        past: As many values as the stream keeps.
        future: Those, and as many more as are known ahead.
        static: What never changes.
    """

    past: Mapping[str, Values] = {}
    future: Mapping[str, Values] = {}
    static: Mapping[str, float | str | None] = {}

    @classmethod
    def from_bytes(cls, content: bytes | None) -> "StreamCovariates":
        """Read what ``to_bytes`` wrote; nothing where there is nothing."""
        return msgspec.msgpack.decode(content, type=cls) if content else cls()

    def to_bytes(self) -> bytes | None:
        """Write all of it; None where there is nothing."""
        is_empty = not (self.past or self.future or self.static)
        return None if is_empty else msgspec.msgpack.encode(self)

    def fits(self, card: Card) -> bool:
        """Whether a model takes covariates of these names."""
        wanted = (card.past_covariates, card.future_covariates, card.static_covariates)
        given = (self.past, self.future, self.static)
        return all(set(one) == set(names) for one, names in zip(given, wanted, strict=True))

    def join(self, later: "StreamCovariates", num_kept: int) -> "StreamCovariates":
        """Return these with those of new values; what was known ahead gives way to them.

        Args:
            later: Of the new values and what is known ahead of them; of the same names.
            num_kept: Values that the stream keeps, without the new ones.
        """
        return StreamCovariates(
            past={name: [*values, *later.past[name]] for name, values in self.past.items()},
            future={
                name: [*values[:num_kept], *later.future[name]]
                for name, values in self.future.items()
            },
            static=self.static,
        )

    def drop(self, count: int) -> "StreamCovariates":
        """Return these without those of the oldest ``count`` values."""
        return StreamCovariates(_slice(self.past, count), _slice(self.future, count), self.static)

    def num_ahead(self, num_kept: int) -> int | None:
        """Return how many steps ahead they are known; None where nothing has to be."""
        return min((len(values) - num_kept for values in self.future.values()), default=None)

    def until(self, stop: int) -> "StreamCovariates":
        """Return these without what is known from the step ``stop`` on."""
        return StreamCovariates(self.past, _slice(self.future, 0, stop), self.static)


def _slice(
    values: Mapping[str, Sequence[float | None]], start: int, stop: int | None = None
) -> dict[str, Values]:
    return {name: list(one[start:stop]) for name, one in values.items()}
