"""What a bulk run is asked for, and how that fits a model."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from app.artifact.card import Card
from app.calendar import Frequency
from app.errors import InvalidInputError
from app.files.columns import ColumnRoles
from app.files.raw import FileLimits
from app.gateway.quantiles import QuantileSelection


@dataclass(frozen=True, kw_only=True, slots=True)
class BulkOptions:
    """What is asked for; None leaves it to the model or the file.

    Attributes:
        output: File of the forecasts; its suffix says which format, see ``app.bulk.output``.
        errors: JSON Lines file of the series that can not be forecast; not there if there are none.
        roles: Names of columns.
        freq: Spacing of the stamps.
        horizon: Steps ahead.
        quantile_levels: Ascending.
        chunk_size: Series that are forecast and recorded together.
        limits: What the file may hold.
    """

    output: Path
    errors: Path
    roles: ColumnRoles = field(default_factory=ColumnRoles)
    freq: str | None = None
    horizon: int | None = None
    quantile_levels: tuple[float, ...] | None = None
    chunk_size: int = 512
    limits: FileLimits = field(default_factory=FileLimits)

    def to_json(self) -> dict[str, Any]:
        """Return all that decides about the rows of the output."""
        content = asdict(self)
        del content["output"], content["errors"]
        return content


@dataclass(frozen=True, slots=True)
class Aim:
    """The options as they fit one model."""

    card: Card
    horizon: int
    selection: QuantileSelection

    @classmethod
    def of(cls, options: BulkOptions, card: Card) -> "Aim":
        """Fit the options to a model.

        Raises:
            InvalidInputError: The model can not do what is asked.
        """
        horizon = card.horizon if options.horizon is None else options.horizon
        if not 1 <= horizon <= card.horizon:
            raise InvalidInputError(f"horizon must be between 1 and {card.horizon} for this model")
        levels = options.quantile_levels or card.quantile_levels
        return cls(card, horizon, QuantileSelection.between(card.quantile_levels, levels))

    def check_frequency(self, found: str | None) -> None:
        """Check the spacing of the stamps of a file; None where time is a plain step.

        Raises:
            InvalidInputError: The model was trained on another one.
        """
        trained = self.card.freq
        if found is None or trained is None or Frequency.parse(found) == Frequency.parse(trained):
            return
        raise InvalidInputError(
            f"the stamps of the file are {found} apart, but this model forecasts {trained}; "
            f"if only some series are wrong, ask for freq {trained}"
        )
