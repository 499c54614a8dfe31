"""From a long-format file to regular series, with a report of what was understood.

- Rows may come in any order.
- A time stamp that a series lacks between its first and its last becomes a missing value.
- A row that repeats another one exactly counts once; two rows that tell different values for one
  item and time stamp are refused, since either choice would be a guess.
- Rows without a target after the last one that has one are the future: their covariates are kept.
- A series with fewer than two values can teach nothing and is left out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from app.calendar import Frequency
from app.errors import InvalidInputError
from app.spacing import Stamps, infer_frequency_in_parts
from models.grid import Group, count_inserted, place_rows, static_values, values_on_grid
from models.series import Series, SeriesSet
from models.stream import ParquetStream
from models.table import Table, read_table

_MOST_STEPS = 100_000_000
_LEAST_FILLED_SHARE = 0.2
MAX_CATEGORIES = 10_000

Source = Table | ParquetStream


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


@dataclass(slots=True)
class _Counts:
    """What is counted while the series of a file are read."""

    is_sorted: bool = True
    num_repeated: int = 0
    num_gaps: int = 0
    num_missing: int = 0
    num_steps: int = 0
    too_short: list[str] = field(default_factory=list)


def load_series(path: Path, options: DataOptions) -> tuple[SeriesSet, Understanding]:
    """Read the series of a CSV or Parquet file.

    Raises:
        InvalidInputError: The file is wrong, or does not say what is needed; the message names the
            column and the row where there is one.
    """
    reading = Reading(read_table(path, options.covariates, options.static_categories), options)
    return reading.finish(path, tuple(reading.list_series()))


class Reading:
    """Going through a file once more, with what was found out about the whole of it before."""

    def __init__(self, source: Source, options: DataOptions) -> None:
        _refuse_dates_without_dashes(source)
        self._source = source
        self._frequency = _find_frequency(source, options)
        self._season = _find_season(self._frequency, options)
        self._given = options
        known = options.known_categories or _find_categories(source, options.static_categories)
        self._options = replace(options, known_categories=known)
        self._counts = _Counts()
        self.num_usable = 0

    def list_series(self) -> Iterator[Series]:
        """Yield the series with two values, in the order of their first rows, and count."""
        counts = self._counts
        for part in self._source.parts():
            frames, num_repeated, is_sorted = _split(part)
            counts.num_repeated += num_repeated
            counts.is_sorted = counts.is_sorted and is_sorted
            frequency = self._frequency if self._source.has_stamps else None
            groups = [place_rows(frame, frequency) for frame in frames]
            self._check_size(groups)
            for group in groups:
                series = _to_series(group, self._options)
                if self._count(group, series):
                    yield series

    def finish(self, path: Path, series: Sequence[Series]) -> tuple[SeriesSet, Understanding]:
        """Return all ``series``, and what was understood."""
        if not series:
            raise InvalidInputError(f"no series of {path.name} has two values")
        options, counts = self._options, self._counts
        items = SeriesSet(
            series=series,
            freq=self._frequency.alias if self._frequency else None,
            season=self._season,
            past_covariates=options.past_covariates,
            future_covariates=options.future_covariates,
            static_covariates=options.static_covariates + options.static_categories,
            static_categories=options.known_categories,
        )
        return items, Understanding(
            num_rows=self._source.num_rows,
            is_sorted=counts.is_sorted,
            num_repeated=counts.num_repeated,
            num_gaps=counts.num_gaps,
            num_missing=counts.num_missing,
            too_short=tuple(counts.too_short),
            ignored=self._source.ignored,
            is_freq_inferred=self._given.freq is None and self._frequency is not None,
            is_season_inferred=self._given.season is None,
        )

    def _count(self, group: Group, series: Series) -> bool:
        """Count one series; return whether anything can be learned from it."""
        num_inserted = count_inserted(group, len(series.target))
        self._counts.num_gaps += num_inserted
        self._counts.num_missing += len(series.target) - series.num_observations - num_inserted
        if series.num_observations < 2:  # noqa: PLR2004
            self._counts.too_short.append(series.item_id)
            return False
        self.num_usable += 1
        return True

    def _check_size(self, groups: list[Group]) -> None:
        longest = max(groups, key=lambda group: group.num_steps)
        self._counts.num_steps += sum(group.num_steps for group in groups)
        most = max(_MOST_STEPS, round(self._source.num_rows / _LEAST_FILLED_SHARE))
        if longest.num_steps > _MOST_STEPS or self._counts.num_steps > most:
            raise InvalidInputError(
                f"with gaps filled there are {self._counts.num_steps} steps, more than {most}; the "
                f"longest item is {longest.item_id}: is one of its time stamps wrong?"
            )


def _split(part: pl.DataFrame) -> tuple[list[pl.DataFrame], int, bool]:
    """Return the different rows of each item in order of time.

    Returns:
        Also how many rows were repeated, and whether those of each item came in order of time.
    """
    stamps, begins = _cut(part)
    if _is_in_order(part, stamps, begins):
        ends = [*begins[1:].tolist(), part.height]
        slices = zip(begins.tolist(), ends, strict=True)
        return [part[first:stop] for first, stop in slices], 0, True
    frame, num_repeated = _drop_repeated(part)
    ordered = frame.sort("item_id", "timestamp", maintain_order=True)
    order = frame["item_id"].unique(maintain_order=True)
    parts = ordered.partition_by("item_id", as_dict=True)
    frames = [parts[(item_id,)] for item_id in order]
    is_sorted = all(bool((frame["row"].diff().drop_nulls() > 0).all()) for frame in frames)
    return frames, num_repeated, is_sorted


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
            f"at {first['timestamp']}; {conflicting.height} rows conflict like this"
        )
    return distinct, frame.height - distinct.height


def _find_frequency(source: Source, options: DataOptions) -> Frequency | None:
    if options.freq is not None:
        return Frequency.parse(options.freq)
    if not source.has_stamps:
        return None
    return infer_frequency_in_parts(lambda: map(_stamps_of_items, source.stamps()))


def _refuse_dates_without_dashes(source: Source) -> None:
    """Dates such as 20240131 are no steps: each month would end in a gap of 69 of them."""
    if source.has_stamps or not all(map(_are_dates, source.stamps())):
        return
    raise InvalidInputError(
        "the column of time holds dates without dashes, such as 20240131, which would be read as "
        "plain integer steps: write them in ISO 8601, such as 2024-01-31"
    )


def _are_dates(frame: pl.DataFrame) -> bool:
    step = frame["timestamp"]
    year, month, day = step // 10_000, step // 100 % 100, step % 100
    are_dates = year.is_between(1900, 2100) & month.is_between(1, 12) & day.is_between(1, 31)
    return bool(are_dates.all())


def _stamps_of_items(frame: pl.DataFrame) -> list[Stamps]:
    """Return the different stamps of each item, ascending."""
    stamps, begins = _cut(frame)
    if not _is_in_order(frame, stamps, begins):
        keys = ["item_id", "timestamp"]
        stamps, begins = _cut(frame.select(keys).unique().sort(keys))
    return np.split(stamps, begins[1:])


def _cut(frame: pl.DataFrame) -> tuple[Stamps, NDArray[np.int64]]:
    """Return the stamps, and the rows where another item begins than that of the row before."""
    names = frame["item_id"]
    begins = names.ne_missing(names.shift(1)).arg_true().to_numpy().astype(np.int64)
    return frame["timestamp"].to_numpy(), begins


def _is_in_order(frame: pl.DataFrame, stamps: Stamps, begins: NDArray[np.int64]) -> bool:
    """Return whether the rows of each item lie together, and every stamp after the one before."""
    rises = stamps[1:] > stamps[:-1]
    rises[begins[1:] - 1] = True
    return bool(rises.all()) and len(begins) == frame["item_id"].n_unique()


def _find_season(frequency: Frequency | None, options: DataOptions) -> int:
    if options.season is not None:
        return options.season
    if frequency is None:
        raise InvalidInputError(
            "time is a plain integer step: --season must say how many steps make a season (1: none)"
        )
    return frequency.season


def _to_series(group: Group, options: DataOptions) -> Series:
    target = values_on_grid(group, ("target",))[:, 0]
    known = np.flatnonzero(~np.isnan(target))
    first, stop = (int(known[0]), int(known[-1]) + 1) if known.size else (0, 0)
    start = group.frame["timestamp"][int(np.searchsorted(group.positions, first))]
    categories = dict(zip(options.static_categories, options.known_categories, strict=True))
    return Series(
        item_id=group.item_id,
        target=target[first:stop],
        start=start,
        past_covariates=values_on_grid(group, options.past_covariates)[first:stop],
        future_covariates=values_on_grid(group, options.future_covariates)[first:],
        static_covariates=static_values(group, options.static_covariates, categories),
    )


def _find_categories(source: Source, names: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    found = tuple(tuple(sorted(source.texts(name, MAX_CATEGORIES))) for name in names)
    for name, texts in zip(names, found, strict=True):
        if not texts or len(texts) > MAX_CATEGORIES:
            raise InvalidInputError(
                f"column {name} holds {len(texts)} different texts; categories are 1 to "
                f"{MAX_CATEGORIES}"
            )
    return found
