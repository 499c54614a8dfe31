import datetime as dt
import io
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.table import Table

from models.backtest import Backtest, Scores
from models.data import Understanding
from models.report import describe_backtest, describe_data
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


def test_backtest_shows_both_methods() -> None:
    model, naive = Scores(0.8, 13.2, 0.09, 0.66, 0.78), Scores(1.1, 17.2, 0.12, 0.91, 0.81)
    text = rendered(describe_backtest(Backtest(3, 6, 18, model, naive), "backtest"))
    for part in ("3 series, 6 windows of 18 steps", "0.800", "1.100", "13.20", "0.0900", "0.780"):
        assert part in text
