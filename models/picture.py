"""The learning curve as a picture."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from models.progress import Check


def draw_learning_curve(checks: Sequence[Check], path: Path) -> None:
    """Write a PNG with the loss of training and of the held-back windows over the steps."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    steps = [check.step for check in checks]
    axes.plot(steps, [check.training_loss for check in checks], label="training")
    held_back = [(c.step, c.validation_loss) for c in checks if c.validation_loss is not None]
    if held_back:
        axes.plot(*zip(*held_back, strict=True), label="held-back windows")
        best = min(held_back, key=lambda pair: pair[1])
        axes.axvline(best[0], color="grey", linestyle=":", label=f"best, step {best[0]}")
    axes.set_xlabel("optimiser steps")
    axes.set_ylabel("quantile loss")
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(path, metadata={"Software": None})
