"""From a decoded request to rows that a model can run; each wrong series is refused for itself."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.artifact.card import Card
from app.calendar import Frequency, format_stamps, parse_stamp
from app.calendar_features import CalendarFeatures
from app.errors import InvalidInputError, InvalidSeriesError
from app.gateway.columns import put_in_order, to_numbers, unknown
from app.gateway.forecast_schemas import ForecastRequest, Note, Series
from app.gateway.notes import list_notes
from app.gateway.quantiles import QuantileSelection
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class Row:
    """One series as a model takes it, cut to its context; no covariates means zero columns.

    Attributes:
        target: ``(time,)``, NaN where missing.
        past_covariates: ``(time, num_past)``
        future_covariates: ``(time + model horizon, num_future)``, NaN beyond the horizon asked for;
            calendar features are its last columns.
        static_covariates: ``(num_static,)``; a category counts the known texts from 1, 0 is any
            other.
        notes: What a reader of the forecast should know.
        later_covariates: What follows ``future_covariates`` where the horizon asked for is beyond
            the model's; None where it is not.
    """

    position: int
    target: NDArray[np.float32]
    past_covariates: NDArray[np.float32]
    future_covariates: NDArray[np.float32]
    static_covariates: NDArray[np.float32]
    timestamps: Sequence[str] | None
    notes: tuple[Note, ...] = ()
    later_covariates: NDArray[np.float32] | None = None

    @property
    def num_steps(self) -> int:
        """Steps that the model reads."""
        return len(self.target)


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """The rows of a request, and why its other series, by position, have none.

    It holds nothing of the decoded request, whose numbers take eight times the space.
    """

    item_ids: tuple[str | None, ...]
    rows: tuple[Row, ...]
    refusals: Mapping[int, InvalidInputError]
    horizon: int
    selection: QuantileSelection


def prepare_request(
    request: ForecastRequest, card: Card, settings: Settings, *, max_horizon: int
) -> PreparedRequest:
    """Check a request against a model and the limits, and turn its series into rows.

    Args:
        request: What is asked for.
        card: What the model takes.
        settings: The limits.
        max_horizon: Most steps ahead, the model's horizon or more.

    Raises:
        InvalidInputError: Something that concerns all series is wrong.
        InvalidSeriesError: No series is valid.
    """
    _check_limits(request, settings)
    horizon = _horizon(request, card, max_horizon)
    levels = card.quantile_levels if request.quantile_levels is None else request.quantile_levels
    selection = QuantileSelection.between(card.quantile_levels, levels)
    preparer = _Preparer(card, horizon, _frequency(request, card))
    rows: list[Row] = []
    refusals: dict[int, InvalidInputError] = {}
    for position, series in enumerate(request.series):
        try:
            rows.append(preparer.to_row(position, series))
        except InvalidInputError as error:
            refusals[position] = error
    if not rows:
        raise _no_series(list(refusals.values()))
    item_ids = tuple(series.item_id for series in request.series)
    return PreparedRequest(item_ids, tuple(rows), refusals, horizon, selection)


def _check_limits(request: ForecastRequest, settings: Settings) -> None:
    if len(request.series) > settings.max_series:
        raise InvalidInputError(f"series may hold at most {settings.max_series} series", "/series")
    if sum(len(series.target) for series in request.series) > settings.max_steps:
        raise InvalidInputError(
            f"all series together may have at most {settings.max_steps} values", "/series"
        )


def _horizon(request: ForecastRequest, card: Card, max_horizon: int) -> int:
    if request.horizon is None:
        return card.horizon
    if request.horizon > max_horizon:
        raise InvalidInputError(
            f"horizon must be between 1 and {max_horizon} for this model", "/horizon"
        )
    return int(request.horizon)


def num_blocks(horizon: int, card: Card) -> int:
    """Return how many runs of a model ``horizon`` steps take, each as long as its own horizon."""
    return -(-horizon // card.horizon)


def _frequency(request: ForecastRequest, card: Card) -> Frequency | None:
    trained = None if card.freq is None else _parse_known(card.freq)
    if request.freq is None:
        return trained
    try:
        asked = Frequency.parse(request.freq)
    except InvalidInputError as error:
        raise InvalidInputError(str(error), "/freq") from error
    if trained is not None and asked != trained:
        raise InvalidInputError(
            f"freq must be {trained.alias} for this model, or be left out", "/freq"
        )
    return asked


def _no_series(refusals: list[InvalidInputError]) -> InvalidInputError:
    if len(refusals) == 1:
        return refusals[0]
    return InvalidSeriesError(f"none of the {len(refusals)} series is valid", refusals)


class _Preparer:
    """Turns the series of one request into rows."""

    def __init__(self, card: Card, horizon: int, freq: Frequency | None) -> None:
        self._card = card
        self._calendar = card.calendar
        self._codes = {
            name: {text: code for code, text in enumerate(known, start=1)}
            for name, known in card.static_categories.items()
        }
        self._horizon = horizon
        self._freq = freq

    def to_row(self, position: int, series: Series) -> Row:
        pointer = f"/series/{position}"
        length, kept = len(series.target), self._card.context_length
        target = _target(series.target, kept, f"{pointer}/target")
        known = self._future(series, pointer)
        now = len(target) + self._card.horizon
        return Row(
            position=position,
            target=target,
            past_covariates=self._past(series, pointer)[-kept:],
            future_covariates=known[:now],
            static_covariates=self._static(series, pointer),
            timestamps=self._timestamps(series.start, length, f"{pointer}/start"),
            notes=list_notes(target, self._card, self._horizon),
            later_covariates=known[now:] if len(known) > now else None,
        )

    def _past(self, series: Series, pointer: str) -> NDArray[np.float32]:
        length, pointer = len(series.target), f"{pointer}/past_covariates"
        columns = put_in_order(series.past_covariates, self._card.past_covariates, pointer)
        table = unknown(length, len(columns))
        for index, (place, values) in enumerate(columns):
            if len(values) != length:
                raise InvalidInputError(f"must have {length} values, as many as target", place)
            table[:, index] = to_numbers(values, place)
        return table

    def _future(self, series: Series, pointer: str) -> NDArray[np.float32]:
        """Return what is known ahead, from the first step that is kept to the last one needed."""
        first = max(0, len(series.target) - self._card.context_length)
        given = self._given_future(series, f"{pointer}/future_covariates")[first:]
        if self._calendar is None:
            return given
        if series.start is None:
            raise InvalidInputError(
                "start is needed: this model reads the calendar, from the stamp of the first value",
                f"{pointer}/start",
            )
        try:
            calendar = _calendar_columns(self._calendar, series.start, first, len(given))
        except InvalidInputError as error:
            raise InvalidInputError(str(error), f"{pointer}/start") from error
        return np.hstack([given, calendar])

    def _given_future(self, series: Series, pointer: str) -> NDArray[np.float32]:
        columns = put_in_order(series.future_covariates, self._card.future_covariates, pointer)
        length, trained = len(series.target), self._card.horizon
        least, most = length + self._horizon, length + max(self._horizon, trained)
        num_rows = length + num_blocks(self._horizon, self._card) * trained
        table = unknown(num_rows, len(columns))
        for index, (place, values) in enumerate(columns):
            if len(values) not in {least, most}:
                raise InvalidInputError(
                    f"must have {least} values, as many as target and horizon together", place
                )
            table[: len(values), index] = to_numbers(values, place)
        return table

    def _static(self, series: Series, pointer: str) -> NDArray[np.float32]:
        pointer = f"{pointer}/static_covariates"
        columns = put_in_order(series.static_covariates, self._card.static_covariates, pointer)
        values = np.empty(len(columns), np.float32)
        for index, (name, (place, value)) in enumerate(
            zip(self._card.static_covariates, columns, strict=True)
        ):
            values[index] = self._static_value(name, value, place)
        return values

    def _static_value(self, name: str, value: float | str | None, place: str) -> float:
        codes = self._codes.get(name)
        if codes is None:
            if isinstance(value, str):
                raise InvalidInputError(f"{name} must be a number or null for this model", place)
            return float(to_numbers([value], place, is_single=True)[0])
        if value is None:
            return 0.0
        if not isinstance(value, str):
            raise InvalidInputError(f"{name} must be a string or null for this model", place)
        return codes.get(value, 0)

    def _timestamps(self, start: str | None, first: int, pointer: str) -> Sequence[str] | None:
        if start is None:
            return None
        if self._freq is None:
            raise InvalidInputError("start needs freq, which this model does not bring", pointer)
        try:
            return _timestamps(self._freq, start, first, self._horizon)
        except InvalidInputError as error:
            raise InvalidInputError(str(error), pointer) from error


def _target(values: list[float | None], kept: int, pointer: str) -> NDArray[np.float32]:
    if not values:
        raise InvalidInputError("target must have at least 1 value", pointer)
    array = to_numbers(values, pointer)[-kept:]
    if math.isnan(array[-1]) and np.isnan(array).all():
        raise InvalidInputError(
            f"target must have at least 1 value that is not null among its last {kept}", pointer
        )
    return array


@functools.lru_cache(maxsize=64)
def _parse_known(alias: str) -> Frequency:
    return Frequency.parse(alias)


@functools.lru_cache(maxsize=4096)
def _timestamps(freq: Frequency, start: str, first: int, count: int) -> tuple[str, ...]:
    # Keyed by the text: equal instants of different offsets must not share an entry.
    return format_stamps(freq.stamps(parse_stamp(start), first, count), start)


@functools.lru_cache(maxsize=64)
def _calendar_columns(
    calendar: CalendarFeatures, start: str, first: int, count: int
) -> NDArray[np.float32]:
    return calendar.compute(parse_stamp(start), first, count)
