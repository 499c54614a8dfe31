"""From a long-format file to regular series, with a report of what was understood.

- Rows may come in any order.
- A time stamp that a series lacks between its first and its last becomes a missing value.
- A row that repeats another one exactly counts once; two rows that tell different values for one
  item and time stamp are refused, since either choice would be a guess.
- Rows without a target after the last one that has one are the future: their covariates are kept.
- A series with fewer than two values can teach nothing and is left out.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from app.calendar import Frequency
from app.errors import InvalidInputError
from app.spacing import OFF_GRID, Positions, grid_positions, infer_frequency
from models.series import Series, SeriesSet
from models.table import Table, read_table

_MOST_STEPS = 100_000_000
MAX_CATEGORIES = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class DataOptions:
    """What a user says about a file.

    Attributes:
        freq: Frequency alias; inferred from the stamps if None.
        season: Steps in one season; the usual one of the frequency if None.
        past_covariates: Columns known up to the present.
        future_covariates: Columns known ahead.
        static_covariates: Columns with one number per series.
        static_categories: Columns with one text per series.
        known_categories: Texts to know of each of them; those in the file if empty.
    """

    freq: str | None = None
    season: int | None = None
    past_covariates: tuple[str, ...] = ()
    future_covariates: tuple[str, ...] = ()
    static_covariates: tuple[str, ...] = ()
    static_categories: tuple[str, ...] = ()
    known_categories: tuple[tuple[str, ...], ...] = ()

    @property
    def covariates(self) -> tuple[str, ...]:
        """All covariate columns of numbers, each one once.

        Raises:
            InvalidInputError: A column is named twice.
        """
        numbers = self.past_covariates + self.future_covariates + self.static_covariates
        names = numbers + self.static_categories
        for name in names:
            if names.count(name) > 1:
                raise InvalidInputError(f"covariate {name} is named twice")
        return numbers


@dataclass(frozen=True, kw_only=True, slots=True)
class Understanding:
    """What was found in a file, for the user to check.

    Attributes:
        num_rows: Rows of the file.
        is_sorted: Whether the rows of each item came in order of time.
        num_repeated: Rows that repeat another one exactly.
        num_gaps: Steps without a row between the first and the last of their series.
        num_missing: Rows without a target, before the last value of their series.
        too_short: Items left out because they have fewer than two values.
        ignored: Columns that are not used.
        is_freq_inferred: Whether the frequency came from the stamps.
        is_season_inferred: Whether the season came from the frequency.
    """

    num_rows: int
    is_sorted: bool
    num_repeated: int
    num_gaps: int
    num_missing: int
    too_short: tuple[str, ...]
    ignored: tuple[str, ...]
    is_freq_inferred: bool
    is_season_inferred: bool


@dataclass(frozen=True, slots=True)
class _Group:
    """The rows of one item in order of time."""

    item_id: str
    frame: pl.DataFrame
    positions: Positions


def load_series(path: Path, options: DataOptions) -> tuple[SeriesSet, Understanding]:
    """Read the series of a CSV or Parquet file.

    Raises:
        InvalidInputError: The file is wrong, or does not say what is needed; the message names the
            column and the row where there is one.
    """
    table = read_table(path, options.covariates, options.static_categories)
    frame, num_repeated = _drop_repeated(table.frame)
    ordered = frame.sort("item_id", "timestamp", maintain_order=True)
    order = frame["item_id"].unique(maintain_order=True)
    parts = ordered.partition_by("item_id", as_dict=True)
    frames = [parts[(item_id,)] for item_id in order]

    frequency = _find_frequency(table, frames, options)
    season = _find_season(frequency, options)
    groups = [_place(part, frequency if table.has_stamps else None) for part in frames]
    _check_size(groups)
    known = options.known_categories or _find_categories(frame, options.static_categories)
    options = replace(options, known_categories=known)
    series = [_to_series(group, options) for group in groups]
    usable = tuple(item for item in series if item.num_observations > 1)
    if not usable:
        raise InvalidInputError(f"no series of {path.name} has two values")
    items = SeriesSet(
        series=usable,
        freq=frequency.alias if frequency else None,
        season=season,
        past_covariates=options.past_covariates,
        future_covariates=options.future_covariates,
        static_covariates=options.static_covariates + options.static_categories,
        static_categories=known,
    )
    inserted = [_count_inserted(group, item) for group, item in zip(groups, series, strict=True)]
    return items, Understanding(
        num_rows=table.frame.height,
        is_sorted=_is_sorted(frames),
        num_repeated=num_repeated,
        num_gaps=sum(inserted),
        num_missing=sum(len(i.target) - i.num_observations for i in series) - sum(inserted),
        too_short=tuple(item.item_id for item in series if item.num_observations < 2),  # noqa: PLR2004
        ignored=table.ignored,
        is_freq_inferred=options.freq is None and frequency is not None,
        is_season_inferred=options.season is None,
    )


def _is_sorted(frames: list[pl.DataFrame]) -> bool:
    return all(bool((frame["row"].diff().drop_nulls() > 0).all()) for frame in frames)


def _drop_repeated(frame: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    cells = [name for name in frame.columns if name != "row"]
    distinct = frame.unique(cells, keep="first", maintain_order=True)
    keys = ["item_id", "timestamp"]
    conflicting = distinct.filter(pl.struct(keys).is_duplicated())
    if conflicting.height:
        first = conflicting.row(0, named=True)
        rows = conflicting.filter(
            (pl.col("item_id") == first["item_id"]) & (pl.col("timestamp") == first["timestamp"])
        )["row"]
        raise InvalidInputError(
            f"rows {', '.join(map(str, rows))} give different values for item {first['item_id']} "
            f"at {first['timestamp']}; {conflicting.height} rows of the file conflict like this"
        )
    return distinct, frame.height - distinct.height


def _find_frequency(
    table: Table, frames: list[pl.DataFrame], options: DataOptions
) -> Frequency | None:
    if options.freq is not None:
        return Frequency.parse(options.freq)
    if not table.has_stamps:
        return None
    return infer_frequency([frame["timestamp"].to_numpy() for frame in frames])


def _find_season(frequency: Frequency | None, options: DataOptions) -> int:
    if options.season is not None:
        return options.season
    if frequency is None:
        raise InvalidInputError(
            "time is a plain integer step: --season must say how many steps make a season (1: none)"
        )
    return frequency.season


def _place(frame: pl.DataFrame, frequency: Frequency | None) -> _Group:
    """Find the step of each row; without a frequency, time is the step."""
    item_id = str(frame["item_id"][0])
    stamps = frame["timestamp"].to_numpy()
    if frequency is None:
        return _Group(item_id, frame, stamps - stamps[0])
    positions = grid_positions(stamps, frequency)
    wrong = np.flatnonzero((positions == OFF_GRID) | (np.diff(positions, prepend=-1) == 0))
    if wrong.size:
        row = frame.row(int(wrong[0]), named=True)
        raise InvalidInputError(
            f"column timestamp, row {row['row']}: {row['timestamp']} is not a whole number of "
            f"{frequency.alias} steps after the first one of item {item_id}"
        )
    return _Group(item_id, frame, positions)


def _check_size(groups: list[_Group]) -> None:
    longest = max(groups, key=lambda group: int(group.positions[-1]))
    total = sum(int(group.positions[-1]) + 1 for group in groups)
    if total > _MOST_STEPS:
        raise InvalidInputError(
            f"with gaps filled there are {total} steps, more than {_MOST_STEPS}; the longest item "
            f"is {longest.item_id}: is one of its time stamps wrong?"
        )


def _to_series(group: _Group, options: DataOptions) -> Series:
    target = _on_grid(group, ("target",))[:, 0]
    known = np.flatnonzero(~np.isnan(target))
    first, stop = (int(known[0]), int(known[-1]) + 1) if known.size else (0, 0)
    start = group.frame["timestamp"][int(np.searchsorted(group.positions, first))]
    return Series(
        item_id=group.item_id,
        target=target[first:stop],
        start=start,
        past_covariates=_on_grid(group, options.past_covariates)[first:stop],
        future_covariates=_on_grid(group, options.future_covariates)[first:],
        static_covariates=_static(group, options),
    )


def _on_grid(
    group: _Group, columns: tuple[str, ...]
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    if not columns:
        return np.empty((0, 0))
    values = np.full((int(group.positions[-1]) + 1, len(columns)), np.nan)
    values[group.positions] = group.frame.select(columns).to_numpy()
    return values


def _static(group: _Group, options: DataOptions) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    numbers = [_one_value(group, name) for name in options.static_covariates]
    codes = [
        known.index(text) + 1 if (text := _one_value(group, name)) in known else 0
        for name, known in zip(options.static_categories, options.known_categories, strict=True)
    ]
    values = [np.nan if value is None else value for value in (*numbers, *codes)]
    return np.array(values, dtype=np.float64)


def _one_value(group: _Group, name: str) -> Any:
    """Return the value that a static column keeps through a series; None where it has none."""
    known = group.frame.filter(pl.col(name).is_not_null())
    changed = known.filter(pl.col(name) != pl.col(name).first())
    if changed.height:
        raise InvalidInputError(
            f"column {name}, row {changed['row'][0]}: a static covariate must keep one value "
            f"through item {group.item_id}"
        )
    return known[name][0] if known.height else None


def _find_categories(frame: pl.DataFrame, names: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    found = tuple(tuple(frame[name].drop_nulls().unique().sort()) for name in names)
    for name, texts in zip(names, found, strict=True):
        if not texts or len(texts) > MAX_CATEGORIES:
            raise InvalidInputError(
                f"column {name} holds {len(texts)} different texts; categories are 1 to "
                f"{MAX_CATEGORIES}"
            )
    return found


def _count_inserted(group: _Group, item: Series) -> int:
    """Steps from the first to the last value for which the file has no row."""
    known = group.frame["target"].is_not_null().arg_true()
    if not len(known):
        return 0
    return len(item.target) - (int(known[-1]) - int(known[0]) + 1)
