"""Covariates from time stamps, and holidays of one exact version of their package."""

import datetime as dt
from importlib.metadata import version

import numpy as np
import pytest

from app.artifact.card import Card
from app.calendar import Frequency
from app.calendar_features import CALENDAR_FEATURES, CalendarFeatures
from app.errors import ArtifactError, InvalidInputError
from app.holiday_calendar import HolidayCalendar
from tests.fakes import make_card

LEAP_DAY = dt.datetime.fromisoformat("2024-02-29T06:00:00")
JANUARY_31 = dt.datetime.fromisoformat("2024-01-31")
LAST_YEAR = dt.datetime.fromisoformat("9999-06-01")
ROUNDING = 1e-6


def features_of(freq: str) -> CalendarFeatures:
    return CalendarFeatures.of_frequency(Frequency.parse(freq), is_cyclic=True, holidays=None)


@pytest.mark.parametrize("freq", ["s", "15min", "h", "D", "3D", "B", "2W", "M", "5M", "Q", "Y"])
@pytest.mark.parametrize("start", [LEAP_DAY, JANUARY_31], ids=["leap day", "last day"])
def test_stamps_at_once_are_those_one_by_one(freq: str, start: dt.datetime) -> None:
    frequency = Frequency.parse(freq)
    expected = np.array(frequency.stamps(start, 3, 40), "M8[us]")
    np.testing.assert_array_equal(frequency.stamp_array(start, 3, 40), expected)


def test_stamps_beyond_the_last_year_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="years 1 to 9999"):
        Frequency.parse("M").stamp_array(LAST_YEAR, 0, 12)


@pytest.mark.parametrize("freq", ["min", "h", "D", "B", "W", "M", "Q"])
def test_features_are_known_and_bounded(freq: str) -> None:
    features = features_of(freq)
    table = features.compute(LEAP_DAY, 0, 200)
    assert set(features.names) <= set(CALENDAR_FEATURES)
    assert table.shape == (200, len(features.names))
    assert np.abs(table).max() <= 1


def test_features_tell_the_time_of_day() -> None:
    features = features_of("h")
    table = features.compute(LEAP_DAY, 0, 7)
    sine, cosine = (features.names.index(f"hour_{wave}") for wave in ("sin", "cos"))
    np.testing.assert_allclose(table[0, [sine, cosine]], [1, 0], atol=ROUNDING)  # six o'clock
    np.testing.assert_allclose(table[6, [sine, cosine]], [0, -1], atol=ROUNDING)  # noon


def test_later_steps_have_the_features_of_their_own_stamps() -> None:
    features = features_of("D")
    whole = features.compute(JANUARY_31, 0, 100)
    np.testing.assert_array_equal(features.compute(JANUARY_31, 60, 40), whole[60:])


def test_years_have_no_calendar_features() -> None:
    with pytest.raises(InvalidInputError, match="steps of Y"):
        features_of("Y")


@pytest.mark.parametrize(
    ("country", "expected"), [("DE", [1, 0, 0]), ("DE-BY", [1, 0, 1]), ("US", [1, 0, 0])]
)
def test_holidays_are_those_of_the_country(country: str, expected: list[int]) -> None:
    days = [dt.datetime.fromisoformat(f"2024-01-0{day}T13:00:00") for day in (1, 2, 6)]
    calendar = HolidayCalendar.of_country(country)
    features = CalendarFeatures(("holiday",), Frequency.parse("h"), calendar)
    assert [int(features.compute(day, 0, 1)[0, 0]) for day in days] == expected


def test_unknown_country_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="knows no country Nowhere"):
        HolidayCalendar.of_country("Nowhere")


def test_holidays_of_months_are_refused() -> None:
    calendar = HolidayCalendar.of_country("DE")
    with pytest.raises(InvalidInputError, match="a day or less, not of M"):
        CalendarFeatures.of_frequency(Frequency.parse("MS"), is_cyclic=False, holidays=calendar)


def test_holidays_of_the_installed_version_are_accepted() -> None:
    HolidayCalendar(country="DE", package_version=version("holidays")).check()


def test_holidays_of_another_version_are_refused_in_one_sentence() -> None:
    with pytest.raises(ArtifactError, match=r"holidays 0\.1, but .* is installed: pip install"):
        HolidayCalendar(country="DE", package_version="0.1").check()


def test_card_with_a_feature_from_the_future_is_refused() -> None:
    with pytest.raises(ValueError, match="knows no feature moon_phase"):
        make_card(calendar_features=("moon_phase",))


def test_card_keeps_its_calendar() -> None:
    card = make_card(calendar_features=("month_sin", "month_cos"), holidays=None)
    read = Card.model_validate_json(card.model_dump_json())
    assert read.calendar == CalendarFeatures(("month_sin", "month_cos"), Frequency(1, "M"))
