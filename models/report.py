"""Tables for the terminal: what was understood of a file, and how good a forecaster is."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.table import Table

from app.calendar import Frequency
from models.backtest import SEASONAL_NAIVE, Backtest
from models.data import Understanding
from models.reasons import Reason
from models.scores import Scores
from models.series import Series, SeriesSet

_NAMED = 5


def describe_data(items: SeriesSet, found: Understanding) -> Table:
    """Tabulate what was understood of a file."""
    table = Table(title="data", show_header=False, title_justify="left")
    for name, text in _data_rows(items, found):
        table.add_row(name, text)
    return table


def describe_reasons(reasons: Sequence[Reason]) -> Table:
    """Tabulate how a run is set up, and why."""
    table = Table(title="training", show_header=False, title_justify="left")
    for reason in reasons:
        table.add_row(*reason)
    return table


def _data_rows(items: SeriesSet, found: Understanding) -> list[tuple[str, str]]:
    lengths = sorted(len(item.target) for item in items.series)
    inferred = {True: " (inferred)", False: ""}
    rows = [
        ("rows", f"{found.num_rows:,}{'' if found.is_sorted else ', not in order of time'}"),
        ("series", f"{len(items.series):,}"),
        ("values", f"{items.num_observations:,}"),
        ("length", f"{lengths[0]} to {lengths[-1]}, median {int(np.median(lengths))}"),
        ("span", _span(items)),
        ("frequency", (items.freq or "integer steps") + inferred[found.is_freq_inferred]),
        ("season", f"{items.season}{inferred[found.is_season_inferred]}"),
        ("gaps filled", f"{found.num_gaps:,} steps without a row, now missing values"),
        ("missing values", f"{found.num_missing:,}"),
        ("repeated rows", f"{found.num_repeated:,} dropped"),
        ("left out", _name_some(found.too_short, "with fewer than two values")),
        ("columns ignored", ", ".join(found.ignored) or "none"),
    ]
    return rows + _covariate_rows(items)


def _covariate_rows(items: SeriesSet) -> list[tuple[str, str]]:
    rows = [("past covariates", ", ".join(items.past_covariates))]
    if items.future_covariates:
        reach = min(_known_ahead(item, len(items.future_covariates)) for item in items.series)
        future = ", ".join(items.future_covariates)
        rows.append(("future covariates", f"{future}; known {reach} steps ahead at least"))
    num_numbers = len(items.static_covariates) - len(items.static_categories)
    names = items.static_covariates
    texts = [
        f"{name} ({len(known)} categories)"
        for name, known in zip(names[num_numbers:], items.static_categories, strict=True)
    ]
    rows.append(("static covariates", ", ".join([*names[:num_numbers], *texts])))
    rows.append(("calendar features", ", ".join(items.calendar_features)))
    return [(name, text) for name, text in rows if text]


def _known_ahead(item: Series, count: int) -> int:
    """Return how far ahead the first ``count`` columns are known, which ends with a value."""
    known = ~np.isnan(item.future_covariates[:, :count]).all(1)
    last = int(np.flatnonzero(known)[-1]) if known.any() else -1
    return max(0, last + 1 - len(item.target))


def _span(items: SeriesSet) -> str:
    spans = [_first_and_last(item, items.freq) for item in items.series]
    return f"{min(span[0] for span in spans)} to {max(span[1] for span in spans)}"


def _first_and_last(item: Series, freq: str | None) -> tuple[Any, Any]:
    steps = len(item.target) - 1
    if isinstance(item.start, int):
        return item.start, item.start + steps
    return item.start, Frequency.parse(freq or "D").shift(item.start, steps)


def _name_some(names: Sequence[str], why: str) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}, {why}"


def describe_backtest(result: Backtest, title: str) -> Table:
    """Tabulate a forecaster's scores beside those of other methods."""
    windows = f"{result.num_series} series, {result.num_windows} windows of {result.horizon} steps"
    table = Table(title=f"{title}: {windows}", title_justify="left")
    table.add_column("")
    methods = {"model": result.model, SEASONAL_NAIVE: result.seasonal_naive, **result.rivals}
    for name in methods:
        table.add_column(name, justify="right")
    rows = zip(*(_figures(scores) for scores in methods.values()), strict=True)
    for (label, digits), figures in zip(_MEASURES, rows, strict=True):
        table.add_row(label, *(f"{figure:.{digits}f}" for figure in figures))
    return table


def describe_steps(result: Backtest) -> Table:
    """Tabulate the scores of each step ahead."""
    table = Table(title="by step ahead", title_justify="left")
    for name in ("step", "MASE", f"{SEASONAL_NAIVE} MASE", "80% coverage"):
        table.add_column(name, justify="right")
    for one in result.steps:
        figures = (one.mase, one.seasonal_naive_mase, one.coverage_80)
        table.add_row(str(one.step), *(f"{figure:.3f}" for figure in figures))
    return table


def describe_calibration(result: Backtest) -> Table:
    """Tabulate the share of values below each quantile; where calibrated, it is the level."""
    table = Table(title="calibration", title_justify="left")
    for name in ("level", "values below"):
        table.add_column(name, justify="right")
    for one in result.calibration:
        table.add_row(f"{one.level:g}", f"{one.share_below:.3f}")
    return table


_MEASURES = (
    ("MASE", 3),
    ("sMAPE", 2),
    ("weighted quantile loss", 4),
    ("scaled quantile loss", 3),
    ("80% coverage", 3),
)


def _figures(scores: Scores) -> tuple[float, ...]:
    return (
        scores.mase,
        scores.smape,
        scores.weighted_quantile_loss,
        scores.scaled_quantile_loss,
        scores.coverage_80,
    )
