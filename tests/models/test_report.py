import datetime as dt
import io
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.table import Table

from models.backtest import Backtest
from models.data import Understanding
from models.report import describe_backtest, describe_calibration, describe_data, describe_steps
from models.scores import LevelShare, Scores, StepScores
from models.series import Series, SeriesSet

FOUND = Understanding(
    num_rows=1234,
    is_sorted=True,
    num_repeated=5,
    num_gaps=6,
    num_missing=7,
    too_short=(),
    ignored=("shop",),
    is_freq_inferred=True,
    is_season_inferred=False,
)
START = dt.datetime.fromisoformat("2024-01-01")
ITEMS = SeriesSet((Series("a", np.arange(24.0), start=START),), "M", 12)


def rendered(table: Table) -> str:
    console = Console(file=io.StringIO(), width=120, record=True)
    console.print(table)
    return console.export_text()


def test_data_are_described() -> None:
    text = rendered(describe_data(ITEMS, FOUND))
    span = "2024-01-01 00:00:00 to 2025-12-01 00:00:00"
    for part in ("1,234", span, "M (inferred)", "6 steps without a row", "5 dropped", "shop"):
        assert part in text
    assert "out of order" not in text


def test_series_left_out_are_named() -> None:
    found = replace(FOUND, too_short=tuple("abcdefg"), is_sorted=False)
    text = rendered(describe_data(ITEMS, found))
    assert "a, b, c, d, e and 2 more, with fewer than two values" in text
    assert "not in order of time" in text


def test_reach_of_future_covariates_is_told() -> None:
    series = replace(ITEMS.series[0], future_covariates=np.zeros((30, 1)))
    items = replace(ITEMS, series=(series,), future_covariates=("price",))
    assert "price; known 6 steps ahead at least" in rendered(describe_data(items, FOUND))


RESULT = Backtest(
    num_series=3,
    num_windows=6,
    horizon=18,
    model=Scores(0.8, 13.2, 0.09, 0.66, 0.78),
    seasonal_naive=Scores(1.1, 17.2, 0.12, 0.91, 0.81),
    rivals={"AutoETS": Scores(0.9, 14.2, 0.1, 0.7, 0.83)},
    steps=(StepScores(1, 0.51, 0.72, 0.79), StepScores(2, 0.93, 1.14, 0.76)),
    calibration=(LevelShare(0.1, 0.123), LevelShare(0.9, 0.876)),
)


def test_backtest_shows_every_method() -> None:
    text = rendered(describe_backtest(RESULT, "backtest"))
    for part in ("3 series, 6 windows of 18 steps", "0.800", "1.100", "13.20", "0.0900", "0.780"):
        assert part in text
    assert "AutoETS" in text
    assert "14.20" in text


def test_steps_ahead_are_shown() -> None:
    text = rendered(describe_steps(RESULT))
    for part in ("0.510", "0.720", "0.790", "0.930", "1.140", "0.760"):
        assert part in text


def test_calibration_is_shown() -> None:
    text = rendered(describe_calibration(RESULT))
    for part in ("0.1", "0.123", "0.9", "0.876"):
        assert part in text
