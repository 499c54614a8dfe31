"""The learning curve as a picture."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from models.progress import Check


def draw_learning_curve(
    checks: Sequence[Check],
    path: Path,
    *,
    held_back: str = "held-back windows",
    loss: str = "quantile loss",
) -> None:
    """Write a PNG with the loss of training and of what was held back over the steps.

    Args:
        checks: The losses.
        path: The picture.
        held_back: What was held back.
        loss: Name of the loss.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    steps = [check.step for check in checks]
    axes.plot(steps, [check.training_loss for check in checks], label="training")
    points = [(c.step, c.validation_loss) for c in checks if c.validation_loss is not None]
    if points:
        axes.plot(*zip(*points, strict=True), label=held_back)
        best = min(points, key=lambda pair: pair[1])
        axes.axvline(best[0], color="grey", linestyle=":", label=f"best, step {best[0]}")
    axes.set_xlabel("optimiser steps")
    axes.set_ylabel(loss)
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(path, metadata={"Software": None})
