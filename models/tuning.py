"""Going on from a trained forecaster: reading data as it needs them, and learning from them."""

from pathlib import Path
from typing import Any

from app.calendar import Frequency
from app.calendar_features import CalendarFeatures
from app.errors import InvalidInputError
from models.calendar_columns import add_calendar
from models.checkpoint import Checkpoint
from models.data import DataOptions, Understanding
from models.defaults import choose_options
from models.run import Plan
from models.series import SeriesSet
from models.stored_data import Store, load_data
from models.training import TrainingOptions

_LEARNING_RATE_SHARE = 0.1
_STEPS_SHARE = 0.5


def calendar_of(checkpoint: Checkpoint) -> CalendarFeatures | None:
    """Return what the network of ``checkpoint`` reads of the calendar.

    Raises:
        ArtifactError: Its holidays are those of another version of their package.
    """
    names = checkpoint.network.config.calendar_features
    if not names or checkpoint.freq is None:
        return None
    if checkpoint.holidays is not None:
        checkpoint.holidays.check()
    return CalendarFeatures(names, Frequency.parse(checkpoint.freq), checkpoint.holidays)


def load_series_for(
    checkpoint: Checkpoint, path: Path, freq: str | None, store: Store | None = None
) -> tuple[SeriesSet, Understanding]:
    """Read a file into the columns and categories that ``checkpoint`` was trained on.

    Raises:
        InvalidInputError: The file is wrong, or its series are of another frequency.
    """
    config = checkpoint.network.config
    options = DataOptions(
        freq=freq,
        season=config.season,
        past_covariates=config.past_covariates,
        future_covariates=config.future_covariates,
        static_covariates=config.static_covariates[: config.num_static_numbers],
        static_categories=tuple(config.categories),
        known_categories=config.static_categories,
    )
    items, found = load_data(path, options, store)
    calendar = calendar_of(checkpoint)
    allowed = {checkpoint.freq} if calendar else {None, checkpoint.freq}
    if checkpoint.freq is not None and items.freq not in allowed:
        raise InvalidInputError(
            f"the data are {items.freq or 'integer steps'}; the model was trained on "
            f"{checkpoint.freq}"
        )
    return add_calendar(items, calendar, horizon=config.horizon), found


def plan_tuning(
    checkpoint: Checkpoint, items: SeriesSet, *, wanted: dict[str, Any], description: str
) -> Plan:
    """Plan to go on training ``checkpoint`` on ``items``, in half the steps at a tenth of the rate.

    Args:
        checkpoint: Where the weights start; its architecture and scaling of covariates stay.
        items: What ``load_series_for`` read.
        wanted: Fields of ``TrainingOptions`` by name.
        description: For the people who read the card.

    Raises:
        InvalidInputError: The values do not fit the networks' axes.
    """
    config = checkpoint.network.config
    if items.has_negative_values and ("log" in config.axes or config.is_nonnegative):
        raise InvalidInputError(
            "some values are negative, but the checkpoint learned from data without negative values"
        )
    defaults = choose_options(items, season=config.season, wanted={})
    suitable = {
        "learning_rate": TrainingOptions().learning_rate * _LEARNING_RATE_SHARE,
        "max_steps": round(defaults.max_steps * _STEPS_SHARE),
        "context_length": checkpoint.context_length,
    }
    return Plan(
        items=items,
        config=config,
        options=choose_options(items, season=config.season, wanted=suitable | wanted),
        description=description or checkpoint.description,
        holidays=checkpoint.holidays,
        start=checkpoint,
    )
