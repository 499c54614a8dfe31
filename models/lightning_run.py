"""A run of Lightning that Ctrl-C stops in good order, and that goes on where it was stopped."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
from rich.console import Console
from torch import nn

from app.errors import InvalidInputError
from models.interruption import Interruption
from models.progress import Check, LearningCurve, ProgressLine

MakeTrainer = Callable[[list[Any]], lightning.Trainer]
"""Makes what trains, with these callbacks."""


def train_to_end(
    module: lightning.LightningModule,
    make_trainer: MakeTrainer,
    *,
    title: str,
    max_steps: int,
    console: Console,
    last: Path,
) -> tuple[Check, ...]:
    """Train a module and return its losses on the way.

    Args:
        module: What to train.
        make_trainer: Makes what trains it.
        title: What is done, for the line of progress.
        max_steps: Optimiser steps to expect.
        console: Where that line is shown.
        last: The newest checkpoint, from which to go on where there is one.

    Raises:
        KeyboardInterrupt: The user stopped it; the work up to the last check is kept.
    """
    curve = LearningCurve()
    line = ProgressLine(console, title, max_steps=max_steps, curve=curve)
    with _quiet_lightning(), line, Interruption() as interruption:
        trainer = make_trainer([curve, line, interruption])
        try:
            trainer.fit(module, ckpt_path=last if last.exists() else None, weights_only=True)
        except SystemExit as stop:  # Lightning's answer to Ctrl-C
            raise KeyboardInterrupt from stop
    return tuple(curve.checks)


def check_weights(network: nn.Module) -> None:
    """Look whether a trained network can be used.

    Raises:
        InvalidInputError: Its weights grew out of all bounds.
    """
    if not all(bool(weight.isfinite().all()) for weight in network.parameters()):
        raise InvalidInputError("training diverged; a lower --learning-rate may help")


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence Lightning's advice on loaders and devices; none of it applies here."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
