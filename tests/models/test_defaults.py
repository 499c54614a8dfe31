from dataclasses import replace

import numpy as np
import pytest

from models.config import NetworkConfig
from models.defaults import choose_config, choose_options, choose_season
from models.series import Series, SeriesSet


def series_set(season: int, *values: float, copies: int = 1) -> SeriesSet:
    series = tuple(Series(str(copy), np.array(values)) for copy in range(copies))
    return SeriesSet(series, None, season)


@pytest.mark.parametrize(
    ("season", "context_length", "window", "num_cycles"),
    [
        pytest.param(1, 512, 6, 8, id="no season"),
        pytest.param(4, 512, 10, 8, id="quarters"),
        pytest.param(12, 512, 36, 8, id="months"),
        pytest.param(24, 512, 50, 8, id="hours"),
        pytest.param(168, 1008, 64, 5, id="hours of a week"),
        pytest.param(1440, 4096, 64, 1, id="minutes"),
    ],
)
def test_sizes_follow_the_season(
    season: int, context_length: int, window: int, num_cycles: int
) -> None:
    items = series_set(season, 1, 2)
    options = choose_options(items, wanted={})
    config = choose_config(items, horizon=3, context_length=options.context_length, wanted={})
    assert options.context_length == context_length
    assert (config.window, config.num_cycles) == (window, num_cycles)
    assert config.tail_length <= context_length


def test_negative_values_choose_the_identity_transform() -> None:
    assert config_of(series_set(1, 0, 2)).transform == "both"
    assert config_of(series_set(1, -1, 2)).transform == "identity"


def test_values_that_are_not_negative_choose_forecasts_that_are_not() -> None:
    assert config_of(series_set(1, 0, 2)).is_nonnegative
    assert not config_of(series_set(1, -1, 2)).is_nonnegative


def config_of(items: SeriesSet) -> NetworkConfig:
    return choose_config(items, horizon=1, context_length=512, wanted={})


@pytest.mark.parametrize(
    ("freq", "num_days", "season"),
    [("h", 35, 168), ("h", 34, 24), ("M", 100, 24)],
)
def test_hours_follow_the_week_where_it_shows(freq: str, num_days: int, season: int) -> None:
    items = replace(series_set(24, *[1.0] * 24 * num_days), freq=freq)
    assert choose_season(items) == season


@pytest.mark.parametrize(("num_weeks", "season"), [(103, 1), (104, 52)])
def test_season_that_most_series_do_not_show_twice_is_none(num_weeks: int, season: int) -> None:
    items = replace(series_set(52, *[1.0] * num_weeks, copies=3), freq="W")
    assert choose_season(items) == season


def test_few_series_make_small_batches() -> None:
    sizes = [
        choose_options(series_set(1, 1, 2, copies=copies), wanted={}).batch_size
        for copies in (1, 10, 1000)
    ]
    assert sizes == [4, 10, 48]


def test_a_quarter_of_daily_series_makes_a_batch() -> None:
    sizes = [
        choose_options(series_set(7, 1, 2, copies=copies), wanted={}).batch_size
        for copies in (1, 69, 1000)
    ]
    assert sizes == [4, 17, 48]


def test_yearly_quarterly_and_weekly_series_are_drawn_to_a_trend() -> None:
    seasons = (1, 4, 7, 12, 52, 168)
    shares = [config_of(series_set(season, 1, 2)).anchor_share for season in seasons]
    assert shares == [0.6, 0.6, 0.0, 0.0, 0.6, 0.0]


def test_months_are_learned_by_gru_and_others_by_lstm() -> None:
    cells = [config_of(series_set(season, 1, 2)).cell for season in (1, 4, 7, 12, 24, 52, 168)]
    assert cells == ["lstm", "lstm", "lstm", "gru", "lstm", "lstm", "lstm"]


def test_only_hours_start_from_a_smoothed_level() -> None:
    configs = [config_of(series_set(season, 1, 2)) for season in (1, 4, 7, 12, 24, 48, 52, 168)]
    smoothing = [config.level_smoothing for config in configs]
    assert smoothing == [1, 1, 1, 1, 0.03, 0.03, 1, 0.03]
    assert [config.half_life for config in configs] == [2, 2, 2, 2, 2, 2, 2, 0.7]


def test_what_is_wanted_wins() -> None:
    items = replace(series_set(12, 1, 2), past_covariates=("p",))
    config = choose_config(items, horizon=3, context_length=512, wanted={"window": 7})
    assert (config.window, config.past_covariates, config.season) == (7, ("p",), 12)
    assert choose_options(items, wanted={"batch_size": 5}).batch_size == 5
