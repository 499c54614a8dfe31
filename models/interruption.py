"""Stopping between two steps of training, and never in the middle of writing a checkpoint."""

import signal
from types import FrameType, TracebackType
from typing import Any, Self

from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption(Callback):
    """While it is entered, the first Ctrl-C or SIGTERM waits for the end of a step.

    The second does not, unless several processes train together: they stop after the same step,
    whichever of them was told to.
    """

    def __init__(self) -> None:
        self._is_wanted = False
        self._is_patient = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """Take over the signals."""
        self._previous = {number: signal.signal(number, self._want) for number in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the signals back."""
        for number, previous in self._previous.items():
            signal.signal(number, previous)

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take SIGTERM back from Lightning, whose processes talk to each other in its handler."""
        self._is_patient = trainer.world_size > 1
        signal.signal(signal.SIGTERM, self._want)

    @override
    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Stop here if that was asked for.

        Raises:
            KeyboardInterrupt: It was.
        """
        if trainer.strategy.reduce_boolean_decision(self._is_wanted, all=False):
            raise KeyboardInterrupt

    def _want(self, _number: int, _frame: FrameType | None) -> None:
        if self._is_wanted and not self._is_patient:
            raise KeyboardInterrupt
        self._is_wanted = True
