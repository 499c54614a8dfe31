import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.calendar import Frequency
from app.errors import InvalidInputError
from app.spacing import (
    OFF_GRID,
    Stamps,
    grid_positions,
    grid_stamps,
    infer_frequency,
    infer_frequency_in_parts,
)

EARLIEST = dt.datetime.fromisoformat("1900-01-01")
LATEST = dt.datetime.fromisoformat("2100-01-01")


def stamps(*texts: str) -> Stamps:
    return np.array(texts, dtype="M8[us]")


@pytest.mark.parametrize(
    ("texts", "alias"),
    [
        pytest.param(("2024-01-01", "2024-02-01", "2024-04-01"), "M", id="month starts"),
        pytest.param(("2024-01-31", "2024-02-29", "2024-03-31"), "M", id="month ends"),
        pytest.param(("2024-01-30", "2024-02-29", "2024-03-30"), "M", id="day 30"),
        pytest.param(("2023-12-31", "2024-03-31", "2024-09-30"), "Q", id="quarter ends"),
        pytest.param(("2020-01-01", "2021-01-01", "2024-01-01"), "Y", id="years"),
        pytest.param(("2020-01-01", "2020-03-01", "2020-05-01"), "2M", id="two months"),
        pytest.param(("2024-01-01", "2024-01-02", "2024-01-04"), "D", id="days"),
        pytest.param(("2024-01-04", "2024-01-05", "2024-01-08", "2024-01-12"), "B", id="business"),
        pytest.param(("2024-01-07", "2024-01-14", "2024-01-28"), "W", id="weeks"),
        pytest.param(("2024-01-01T00", "2024-01-01T01", "2024-01-01T03"), "h", id="hours"),
        pytest.param(("2024-01-01T00:00", "2024-01-01T00:15"), "15min", id="quarter hours"),
        pytest.param(("2024-01-01T00:00:00", "2024-01-01T00:00:10"), "10s", id="ten seconds"),
    ],
)
def test_frequency_is_inferred(texts: tuple[str, ...], alias: str) -> None:
    assert infer_frequency([stamps(*texts)]).alias == alias


def test_every_series_must_lie_on_the_grid() -> None:
    sparse = stamps("2024-01-01", "2024-01-03")
    assert infer_frequency([sparse, stamps("2024-02-01", "2024-02-02", "2024-02-03")]).alias == "D"


@pytest.mark.parametrize(
    ("first", "second", "alias"),
    [
        pytest.param(("2020-01-01", "2021-01-01"), ("2020-05-01", "2020-06-01"), "M", id="months"),
        pytest.param(("2020-01-01", "2021-01-01"), ("2020-01-01", "2020-07-01"), "2Q", id="halves"),
        pytest.param(("2024-01-01", "2024-01-15"), ("2024-01-04", "2024-01-05"), "B",
                     id="business"),
        pytest.param(("2024-01-07", "2024-01-14"), ("2024-01-04", "2024-01-05"), "D", id="days"),
        pytest.param(("2024-01-01", "2024-01-02"), ("2024-01-01T00", "2024-01-01T06"), "6h",
                     id="hours"),
    ],
)  # fmt: skip
def test_parts_tell_the_frequency_of_the_whole(
    first: tuple[str, ...], second: tuple[str, ...], alias: str
) -> None:
    series = [stamps(*first), stamps(*second)]
    assert infer_frequency(series).alias == alias
    assert infer_frequency_in_parts(lambda: [[each] for each in series]).alias == alias


def test_single_stamps_tell_no_frequency() -> None:
    with pytest.raises(InvalidInputError, match="give freq"):
        infer_frequency([stamps("2024-01-01"), stamps("2024-02-01")])


def test_scattered_stamps_tell_no_frequency() -> None:
    with pytest.raises(InvalidInputError, match="fill less than 20%"):
        infer_frequency([stamps("2024-01-01T00:00:00", "2024-01-01T00:00:01", "2024-01-01T01:00")])


def test_fractions_of_a_second_tell_no_frequency() -> None:
    with pytest.raises(InvalidInputError, match="whole seconds"):
        infer_frequency([stamps("2024-01-01T00:00:00", "2024-01-01T00:00:00.5")])


def test_stamp_between_two_steps_is_off_the_grid() -> None:
    found = grid_positions(stamps("2024-01-01", "2024-01-15", "2024-02-01"), Frequency(1, "M"))
    assert found.tolist() == [0, OFF_GRID, 1]


def test_weekend_is_off_the_grid_of_business_days() -> None:
    found = grid_positions(stamps("2024-01-05", "2024-01-06", "2024-01-08"), Frequency(1, "B"))
    assert found.tolist() == [0, OFF_GRID, 1]


@given(
    st.sampled_from(["s", "min", "h", "D", "B", "W", "M", "Q", "Y"]),
    st.integers(1, 3),
    st.datetimes(EARLIEST, LATEST),
    st.lists(st.integers(1, 40), min_size=1, max_size=8, unique=True),
)
def test_positions_undo_the_calendar(
    unit: str, count: int, start: dt.datetime, steps: list[int]
) -> None:
    frequency = Frequency(count, unit)
    start = frequency.shift(start.replace(microsecond=0), 0)
    places = [0, *sorted(steps)]
    found = grid_positions(
        np.array([frequency.shift(start, place) for place in places], dtype="M8[us]"), frequency
    )
    assert found.tolist() == places


@pytest.mark.parametrize("alias", ["15min", "h", "D", "B", "2W", "M", "Q", "3Y"])
@pytest.mark.parametrize("start", ["2023-01-31T06:00", "2024-02-29T00:00", "2023-11-30T12:30"])
def test_stamps_of_a_grid_are_those_of_the_calendar(start: str, alias: str) -> None:
    frequency = Frequency.parse(alias)
    expected = frequency.stamps(dt.datetime.fromisoformat(start), 0, 30)
    assert grid_stamps(np.datetime64(start, "us"), frequency, 30).tolist() == expected
