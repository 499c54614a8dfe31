"""The rows of one item on a grid of equal steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from app.calendar import Frequency
from app.errors import InvalidInputError
from app.spacing import OFF_GRID, Positions, grid_positions


@dataclass(frozen=True, slots=True)
class Group:
    """The rows of one item in order of time, and the step of each."""

    item_id: str
    frame: pl.DataFrame
    positions: Positions

    @property
    def num_steps(self) -> int:
        """Steps from the first row to the last."""
        return int(self.positions[-1]) + 1


def place_rows(frame: pl.DataFrame, frequency: Frequency | None) -> Group:
    """Find the step of each row; without a frequency, time is the step.

    Raises:
        InvalidInputError: A row lies between two steps.
    """
    item_id = str(frame["item_id"][0])
    stamps = frame["timestamp"].to_numpy()
    if frequency is None:
        return Group(item_id, frame, stamps - stamps[0])
    positions = grid_positions(stamps, frequency)
    wrong = np.flatnonzero((positions == OFF_GRID) | (np.diff(positions, prepend=-1) == 0))
    if wrong.size:
        row = frame.row(int(wrong[0]), named=True)
        raise InvalidInputError(
            f"column timestamp, row {row['row']}: {row['timestamp']} is not a whole number of "
            f"{frequency.alias} steps after the first one of item {item_id}"
        )
    return Group(item_id, frame, positions)


def values_on_grid(group: Group, columns: tuple[str, ...]) -> NDArray[np.float64]:
    """Return ``(num_steps, columns)``, NaN where there is no row; ``(0, 0)`` without columns."""
    if not columns:
        return np.empty((0, 0))
    values = np.full((group.num_steps, len(columns)), np.nan)
    values[group.positions] = np.column_stack([group.frame[name].to_numpy() for name in columns])
    return values


def static_values(
    group: Group, numbers: Sequence[str], categories: dict[str, tuple[str, ...]]
) -> NDArray[np.float64]:
    """Return one number for each of ``numbers``, and the place of each text, 0 for unknown ones.

    Raises:
        InvalidInputError: A column has several values.
    """
    found = [_one_value(group, name) for name in numbers]
    codes = [
        known.index(text) + 1 if (text := _one_value(group, name)) in known else 0
        for name, known in categories.items()
    ]
    values = [np.nan if value is None else value for value in (*found, *codes)]
    return np.array(values, dtype=np.float64)


def _one_value(group: Group, name: str) -> Any:
    """Return the value that a static column keeps through a series; None where it has none."""
    known = group.frame.filter(pl.col(name).is_not_null())
    changed = known.filter(pl.col(name) != pl.col(name).first())
    if changed.height:
        raise InvalidInputError(
            f"column {name}, row {changed['row'][0]}: a static covariate must keep one value "
            f"through item {group.item_id}"
        )
    return known[name][0] if known.height else None


def count_inserted(group: Group, num_steps: int) -> int:
    """Return the steps from the first to the last value, ``num_steps``, without a row."""
    known = np.flatnonzero(~np.isnan(group.frame["target"].to_numpy()))
    if not known.size:
        return 0
    return num_steps - (int(known[-1]) - int(known[0]) + 1)
