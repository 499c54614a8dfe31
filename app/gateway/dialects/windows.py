"""Cuts flat series into windows to be forecast: at their ends, or at origins in their history."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.artifact.card import Card


@dataclass(frozen=True, slots=True)
class Window:
    """A forecast of ``num_steps`` steps from ``cut`` on; positions are those in the flat values."""

    series: int
    begin: int
    cut: int
    num_steps: int


def windows_at_ends(sizes: Sequence[int], horizon: int) -> Iterator[Window]:
    """Forecast beyond the last value of each series."""
    begin = 0
    for series, size in enumerate(sizes):
        yield Window(series, begin, begin + size, horizon)
        begin += size


def windows_before_ends(
    sizes: Sequence[int], horizon: int, *, num_windows: int, step: int
) -> Iterator[Window]:
    """Forecast from ``num_windows`` origins, ``step`` apart; the last window ends with the series.

    A series must be longer than ``horizon + step * (num_windows - 1)``.
    """
    begin = 0
    for series, size in enumerate(sizes):
        first = begin + size - horizon - step * (num_windows - 1)
        for number in range(num_windows):
            yield Window(series, begin, first + step * number, horizon)
        begin += size


def windows_over_history(sizes: Sequence[int], card: Card) -> Iterator[Window]:
    """Forecast every value that has two seasons before it, in windows of a season that touch.

    A shorter series is forecast from its second value on.
    """
    length = max(1, min(card.season, card.horizon))
    begin = 0
    for series, size in enumerate(sizes):
        end = begin + size
        known = 2 * card.season if size > 2 * card.season else 1
        for cut in range(begin + known, end, length):
            yield Window(series, begin, cut, min(length, end - cut))
        begin += size


def windows_over_newest(sizes: Sequence[int], count: int, *, length: int) -> Iterator[Window]:
    """Forecast the last ``count`` values of each series, in windows of ``length`` that touch."""
    begin = 0
    for series, size in enumerate(sizes):
        end = begin + size
        for cut in range(end - count, end, length):
            yield Window(series, begin, cut, min(length, end - cut))
        begin += size
