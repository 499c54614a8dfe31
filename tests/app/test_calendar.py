import datetime as dt

import pytest

from app.calendar import Frequency, format_stamps, parse_stamp
from app.errors import InvalidInputError


@pytest.mark.parametrize(
    ("alias", "canonical"),
    [
        ("h", "h"), ("H", "h"), ("15min", "15min"), ("30T", "30min"), ("S", "s"), ("D", "D"),
        ("1D", "D"), ("B", "B"), ("W", "W"), ("W-SUN", "W"), ("M", "M"), ("MS", "M"), ("ME", "M"),
        ("3M", "3M"), ("Q", "Q"), ("QS-JAN", "Q"), ("QE", "Q"), ("Y", "Y"), ("YS", "Y"), ("A", "Y"),
    ],
)  # fmt: skip
def test_alias_is_read(alias: str, canonical: str) -> None:
    assert Frequency.parse(alias).alias == canonical


@pytest.mark.parametrize(
    "alias", ["", "0D", "-1h", "fortnight", "D-SUN", "1.5h", "123456h", "h " * 9]
)
def test_other_aliases_are_refused(alias: str) -> None:
    with pytest.raises(InvalidInputError, match="15min or MS"):
        Frequency.parse(alias)


@pytest.mark.parametrize(
    ("alias", "season"),
    [
        ("h", 24),
        ("15min", 96),
        ("D", 7),
        ("2D", 1),
        ("B", 5),
        ("W", 52),
        ("M", 12),
        ("Q", 4),
        ("Y", 1),
    ],
)
def test_usual_season(alias: str, season: int) -> None:
    assert Frequency.parse(alias).season == season


@pytest.mark.parametrize(
    ("alias", "start", "steps", "expected"),
    [
        ("M", "2024-01-31", 1, "2024-02-29"),
        ("M", "2024-02-29", 1, "2024-03-31"),
        ("M", "2024-01-30", 1, "2024-02-29"),
        ("M", "2023-12-15", 13, "2025-01-15"),
        ("Q", "2024-03-31", 1, "2024-06-30"),
        ("Y", "2024-02-29", 1, "2025-02-28"),
        ("W", "2024-12-29", 1, "2025-01-05"),
        ("B", "2024-05-31", 1, "2024-06-03"),
        ("D", "2024-02-28", 2, "2024-03-01"),
        ("15min", "2024-01-01T23:45", 1, "2024-01-02T00:00:00"),
        ("h", "2024-03-31T00:00:00+01:00", 3, "2024-03-31T03:00:00+01:00"),
        ("s", "2024-06-30T23:59:59", 1, "2024-07-01T00:00:00"),
        ("D", "2024-02-28T00:00", 2, "2024-03-01T00:00:00"),
        ("h", "2024-02-28", 1, "2024-02-28T01:00:00"),
    ],
)
def test_shift(alias: str, start: str, steps: int, expected: str) -> None:
    shifted = Frequency.parse(alias).shift(parse_stamp(start), steps)
    assert format_stamps([shifted], start) == (expected,)


def test_month_ends_do_not_wear_down() -> None:
    stamps = Frequency.parse("M").stamps(dt.datetime(2023, 10, 31), 1, 5)
    assert [stamp.day for stamp in stamps] == [30, 31, 31, 29, 31]


@pytest.mark.parametrize("alias", ["s", "D", "B", "W", "M", "Q", "Y", "99999Y"])
def test_stamps_outside_the_calendar_are_refused(alias: str) -> None:
    frequency = Frequency.parse(alias)
    with pytest.raises(InvalidInputError, match="9999"):
        frequency.shift(parse_stamp("9999-12-31T23:59:59"), 3)


def test_count_of_astronomic_size_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="9999"):
        Frequency.parse("99999W").shift(parse_stamp("2024-01-01"), 10**15)


@pytest.mark.parametrize("text", ["", "soon", "2024-13-01", "2024-02-30", "01.02.2024", "1e9"])
def test_other_stamps_are_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="ISO 8601"):
        parse_stamp(text)
