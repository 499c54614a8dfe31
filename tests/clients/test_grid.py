import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.calendar import Frequency
from app.spacing import OFF_GRID, grid_positions
from gatecast_client.grid import begins_alike, grid_of

FREQUENCIES = ["s", "15min", "h", "D", "2D", "B", "2B", "W", "MS", "ME", "QS", "YS", "3M"]


@pytest.mark.parametrize("freq", FREQUENCIES)
@given(
    start=st.datetimes(dt.datetime(1990, 1, 1), dt.datetime(2030, 1, 1)),
    steps=st.integers(0, 200),
)
def test_grid_counts_the_steps_of_the_service(freq: str, start: dt.datetime, steps: int) -> None:
    service = Frequency.parse(freq)
    if service.unit == "B" and start.weekday() >= 5:
        start -= dt.timedelta(days=2)
    assert grid_of(freq, start)(service.shift(start, steps)) == steps


@pytest.mark.parametrize(
    ("freq", "stamp"),
    [
        ("MS", "2024-02-02"),
        ("2MS", "2024-02-01"),
        ("D", "2024-01-01T01:00:00"),
        ("h", "2024-01-01T00:30:00"),
        ("B", "2024-01-06"),
        ("W", "2024-01-02"),
    ],
)
def test_stamp_off_the_grid_has_no_place(freq: str, stamp: str) -> None:
    start = dt.datetime(2024, 1, 1)
    assert grid_of(freq, start)(dt.datetime.fromisoformat(stamp)) is None


def test_dates_without_time_work_as_well() -> None:
    assert grid_of("MS", dt.date(2024, 1, 31))(dt.date(2024, 2, 29)) == 1


def test_unknown_freq_is_named() -> None:
    with pytest.raises(ValueError, match="'fortnight'"):
        grid_of("fortnight", dt.date(2024, 1, 1))


@pytest.mark.parametrize(
    ("freq", "start", "stamp"),
    [
        ("M", "2023-02-28", "2023-03-28"),
        ("M", "2023-01-30", "2023-03-31"),
        ("M", "2023-01-01", "2023-02-01T06:00"),
        ("B", "2024-01-01", "2024-01-02T06:00"),
    ],
)
def test_day_and_time_are_those_of_the_service(freq: str, start: str, stamp: str) -> None:
    first, other = dt.datetime.fromisoformat(start), dt.datetime.fromisoformat(stamp)
    assert grid_positions(np.array([first, other], "M8[us]"), Frequency.parse(freq))[1] == OFF_GRID
    assert grid_of(freq, first)(other) is None


@pytest.mark.parametrize("freq", FREQUENCIES)
@given(
    start=st.datetimes(dt.datetime(1990, 1, 1), dt.datetime(2030, 1, 1)),
    steps=st.integers(0, 200),
)
def test_start_that_begins_alike_has_the_same_later_stamps(
    freq: str, start: dt.datetime, steps: int
) -> None:
    service = Frequency.parse(freq)
    if service.unit == "B" and start.weekday() >= 5:
        start -= dt.timedelta(days=2)
    later = service.shift(start, steps)
    is_same = service.stamps(later, 1, 24) == service.stamps(start, steps + 1, 24)
    assert is_same or not begins_alike(freq, start, later)
