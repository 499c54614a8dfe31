"""A backtest in pictures: fan charts of three series, and how well the levels are calibrated."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from models.backtest import MODEL, Backtest, Forecasts
from models.metrics import EVALUATION_LEVELS
from models.scores import mase_of

FANS_FILE = "fan_charts.png"
RELIABILITY_FILE = "reliability.png"

_BANDS = ((0, -1, 0.2), (2, -3, 0.35))
"""Lowest and highest level of a band by place, and how dark it is."""


def draw_backtest(forecasts: Forecasts, result: Backtest, directory: Path) -> None:
    """Write ``FANS_FILE`` and ``RELIABILITY_FILE`` into ``directory``, which is made."""
    directory.mkdir(parents=True, exist_ok=True)
    draw_fans(forecasts, directory / FANS_FILE)
    draw_reliability(result, directory / RELIABILITY_FILE)


def draw_fans(forecasts: Forecasts, path: Path) -> None:
    """Write a PNG with the windows of the lowest, the median and the highest MASE."""
    mase = mase_of(forecasts.actual, forecasts.quantiles[MODEL], forecasts.scales)
    known = np.flatnonzero(~np.isnan(mase))
    order = known[np.argsort(mase[known], kind="stable")]
    if not len(order):
        order = np.zeros(1, np.intp)  # no measure is defined: any window will do
    places = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    figure = Figure(figsize=(8, 9), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, place) in zip(figure.subplots(3), places.items(), strict=True):
        _draw_fan(axes, forecasts, int(place))
        item_id = forecasts.windows[place].series.item_id
        axes.set_title(f"{name}: {item_id}, MASE {mase[place]:.2f}", loc="left")
    parts = figure.axes[0].get_legend_handles_labels()
    figure.legend(*parts, loc="outside lower center", ncols=len(parts[0]))
    figure.savefig(path, metadata={"Software": None})


def _draw_fan(axes: Axes, forecasts: Forecasts, place: int) -> None:
    window = forecasts.windows[place]
    shown = max(3 * forecasts.horizon, 2 * forecasts.season)
    first = max(0, window.origin - shown)
    past = np.arange(first, window.origin)
    ahead = np.arange(window.origin, window.origin + forecasts.horizon)
    quantiles = forecasts.quantiles[MODEL][place]
    axes.plot(past, window.series.target[past], color="black", linewidth=1, label="history")
    for low, high, darkness in _BANDS:
        share = round(100 * (EVALUATION_LEVELS[high] - EVALUATION_LEVELS[low]))
        axes.fill_between(
            ahead,
            quantiles[:, low],
            quantiles[:, high],
            color="tab:blue",
            alpha=darkness,
            linewidth=0,
            label=f"{share} % interval",
        )
    axes.plot(ahead, quantiles[:, len(EVALUATION_LEVELS) // 2], color="tab:blue", label="median")
    axes.plot(ahead, forecasts.actual[place], "o", color="black", markersize=3, label="actual")
    axes.set_xlabel("step")


def draw_reliability(result: Backtest, path: Path) -> None:
    """Write a PNG that sets the share of values below each quantile against its level."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="calibrated")
    levels = [one.level for one in result.calibration]
    axes.plot(levels, [one.share_below for one in result.calibration], "o-", label="model")
    axes.set_xlabel("level of the quantile")
    axes.set_ylabel("share of actual values below it")
    axes.set_aspect("equal")
    axes.legend()
    figure.savefig(path, metadata={"Software": None})
