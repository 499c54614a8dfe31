import numpy as np
import pytest

from models.naive import seasonal_naive

LEVELS = (0.1, 0.5, 0.9)
NORMAL_90 = 1.2815515655446004  # the standard normal quantile at 0.9


def test_median_repeats_the_last_season() -> None:
    history = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    forecast = seasonal_naive(history, season=3, horizon=5, levels=LEVELS)
    assert forecast[:, 1].tolist() == [4.0, 5.0, 6.0, 4.0, 5.0]


def test_spread_is_that_of_the_errors_within_the_history() -> None:
    history = np.array([0.0, 0.0, 3.0, 4.0])
    forecast = seasonal_naive(history, season=2, horizon=1, levels=LEVELS)
    spread = np.sqrt((9 + 16) / 2)
    assert forecast[0].tolist() == pytest.approx(
        [3 - NORMAL_90 * spread, 3, 3 + NORMAL_90 * spread]
    )


def test_spread_grows_with_the_square_root_of_the_seasons_ahead() -> None:
    history = np.array([0.0, 0.0, 3.0, 4.0])
    forecast = seasonal_naive(history, season=2, horizon=8, levels=LEVELS)
    widths = forecast[:, 2] - forecast[:, 0]
    assert widths[6] / widths[0] == pytest.approx(2.0)


def test_missing_value_is_taken_from_the_season_before() -> None:
    history = np.array([1.0, 2.0, 3.0, np.nan])
    forecast = seasonal_naive(history, season=2, horizon=2, levels=LEVELS)
    assert forecast[:, 1].tolist() == [3.0, 2.0]


def test_phase_without_any_value_takes_the_last_one() -> None:
    history = np.array([1.0, np.nan, 3.0, np.nan])
    assert seasonal_naive(history, season=2, horizon=2, levels=LEVELS)[1, 1] == 3.0


def test_history_shorter_than_a_season_repeats_its_last_value() -> None:
    forecast = seasonal_naive(np.array([1.0, 5.0]), season=12, horizon=3, levels=LEVELS)
    assert forecast[:, 1].tolist() == [5.0, 5.0, 5.0]
