"""Tables in long format, of pandas or polars, to series and back.

Neither library is imported: a table gives its columns by name, as lists, and is made from a mapping
of columns to lists; both libraries agree on that.
"""

import datetime as dt
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from gatecast_client.answers import Forecast, SeriesForecast
from gatecast_client.clock import Clock
from gatecast_client.errors import SeriesRefusedError
from gatecast_client.grid import Stamp, begins_alike, grid_of
from gatecast_client.requests import Series

Table = TypeVar("Table")

_SERIES_PER_REQUEST = 1000
_VALUES_PER_REQUEST = 200_000
"""Some 4 MB of JSON, half of what the service takes."""

_Rows = Mapping[Stamp, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """How the columns of a table are called."""

    item_id: str = "item_id"
    timestamp: str = "timestamp"
    target: str = "target"
    past_covariates: Sequence[str] = ()
    future_covariates: Sequence[str] = ()
    static_covariates: Sequence[str] = ()


class TableTask(Generic[Table]):
    """The series of a table, in the order in which they first appear.

    Args:
        table: One row per series and stamp, in any order.
        columns: How its columns are called.
        card: The model's card.
        freq: Spacing of the rows; the card's if None.
        horizon: Steps ahead; the card's if None.

    Raises:
        SeriesRefusedError: A series has no value, or a stamp is double or off the grid.
        ValueError: A frequency is needed and not known, or some stamps alone have a time zone.
    """

    def __init__(
        self,
        table: Table,
        columns: Columns,
        card: Mapping[str, Any],
        *,
        freq: str | None,
        horizon: int | None,
    ) -> None:
        self._kind = type(table)
        self._columns = columns
        self._freq = freq or card.get("freq")
        self._horizon = horizon or int(card.get("horizon", 1))
        self._context_length: int | None = card.get("context_length")
        if self._freq is None:
            raise ValueError("the model has no frequency of its own: give freq")
        self._rows, self._clock = _read_rows(table, columns)
        self._series = [self._to_series(item, rows) for item, rows in self._rows.items()]

    def parts(self) -> Iterator[list[Series]]:
        """Return the series in parts of one request each, which stay below the service's limits."""
        part: list[Series] = []
        num_values = 0
        for series in self._series:
            count = _count_values(series)
            is_full = num_values + count > _VALUES_PER_REQUEST or len(part) == _SERIES_PER_REQUEST
            if part and is_full:
                yield part
                part, num_values = [], 0
            part.append(series)
            num_values += count
        if part:
            yield part

    def to_table(self, answers: Sequence[Forecast]) -> Table:
        """Return all forecasts in one table of the library that the rows came in.

        Raises:
            SeriesRefusedError: The service refused a series.
        """
        items: list[Any] = []
        stamps: list[Stamp] = []
        levels = answers[0].quantile_levels if answers else ()
        values: dict[str, list[float]] = {repr(level): [] for level in levels}
        forecasts = [one for answer in answers for one in answer.forecasts]
        for (item, rows), forecast in zip(self._rows.items(), forecasts, strict=True):
            _check(item, forecast)
            read = type(next(iter(rows))).fromisoformat
            found = [self._clock.show(read(text)) for text in forecast.timestamps or ()]
            items += [item] * len(found)
            stamps += found
            for level, numbers in forecast.quantiles.items():
                values[repr(level)] += numbers
        names = self._columns
        make: Any = self._kind
        made: Table = make({names.item_id: items, names.timestamp: stamps, **values})
        return made

    def _to_series(self, item: object, rows: _Rows) -> Series:
        first, names = next(iter(rows)), self._columns
        grid = self._on_grid(item, rows)
        known = [place for place, row in grid.items() if not _is_missing(row[names.target])]
        if not known:
            raise SeriesRefusedError(item, "it has no value")
        end = known[-1] + 1
        start, begin = self._find_start(zip(rows, grid, strict=True), end)
        past, future = range(begin, end), range(begin, end + self._horizon)
        return Series(
            item_id=str(item)[:256],
            start=start.isoformat(),
            target=_filled(grid, names.target, past),
            past_covariates={n: _filled(grid, n, past) for n in names.past_covariates},
            future_covariates={n: _filled(grid, n, future) for n in names.future_covariates},
            static_covariates={n: rows[first][n] for n in names.static_covariates},
        )

    def _find_start(self, places: Iterable[tuple[Stamp, int]], end: int) -> tuple[Stamp, int]:
        """Return the last row before which the model reads nothing; each place is that of a row."""
        (first, begin), *later = places
        start = first
        for stamp, place in later:
            if self._context_length is None or place > end - self._context_length:
                break
            if begins_alike(str(self._freq), first, stamp):
                start, begin = stamp, place
        return start, begin

    def _on_grid(self, item: object, rows: _Rows) -> dict[int, Mapping[str, Any]]:
        count_steps = grid_of(str(self._freq), next(iter(rows)))
        grid: dict[int, Mapping[str, Any]] = {}
        for stamp, row in rows.items():
            place = count_steps(stamp)
            if place is None or place in grid:
                raise SeriesRefusedError(item, f"{stamp} is not on the grid of {self._freq}")
            grid[place] = row
        return grid


def _read_rows(
    table: Any, columns: Columns
) -> tuple[dict[Any, dict[Stamp, dict[str, Any]]], Clock]:
    """Return the rows of each series by stamp, oldest first, and how their stamps are counted."""
    names = [
        columns.target,
        *columns.past_covariates,
        *columns.future_covariates,
        *columns.static_covariates,
    ]
    items = table[columns.item_id].to_list()
    stamps = [_to_stamp(stamp) for stamp in table[columns.timestamp].to_list()]
    clock = Clock.of(stamps)
    values = zip(*(table[name].to_list() for name in names), strict=True)
    found: dict[Any, dict[Stamp, dict[str, Any]]] = {}
    for item, stamp, row in zip(items, stamps, values, strict=True):
        rows = found.setdefault(item, {})
        when = clock.read(stamp)
        if when in rows:
            raise SeriesRefusedError(item, f"{stamp} comes twice")
        rows[when] = dict(zip(names, row, strict=True))
    ordered = {
        item: dict(sorted(rows.items(), key=lambda row: row[0])) for item, rows in found.items()
    }
    return ordered, clock


def _to_stamp(value: Any) -> Stamp:
    if isinstance(value, str):
        return dt.datetime.fromisoformat(value)
    if isinstance(value, dt.date) and value.year > 0:  # the year of pandas' NaT is NaN
        from_pandas = getattr(value, "to_pydatetime", None)
        plain: Stamp = from_pandas() if from_pandas else value
        return plain
    raise TypeError(f"a time stamp must be a date, a time or ISO 8601, not {type(value).__name__}")


def _filled(grid: Mapping[int, Mapping[str, Any]], name: str, places: range) -> list[float | None]:
    return [grid[place][name] if place in grid else None for place in places]


def _count_values(series: Series) -> int:
    covariates = (
        *(series.past_covariates or {}).values(),
        *(series.future_covariates or {}).values(),
    )
    return len(series.target) + sum(map(len, covariates))


def _is_missing(value: float | None) -> bool:
    return value is None or math.isnan(value)


def _check(item: object, forecast: SeriesForecast) -> None:
    if forecast.error is not None:
        raise SeriesRefusedError(item, forecast.error.detail)
