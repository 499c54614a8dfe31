"""Ctrl-C between two steps of training, and never in the middle of writing a checkpoint."""

import signal
from types import FrameType, TracebackType
from typing import Any, Self

from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override


class Interruption(Callback):
    """While it is entered, the first Ctrl-C waits for the end of a step; the second does not."""

    def __init__(self) -> None:
        self._is_wanted = False
        self._previous: Any = None

    def __enter__(self) -> Self:
        """Take over the signal."""
        self._previous = signal.signal(signal.SIGINT, self._want)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the signal back."""
        signal.signal(signal.SIGINT, self._previous)

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
        if self._is_wanted:
            raise KeyboardInterrupt

    def _want(self, _number: int, _frame: FrameType | None) -> None:
        if self._is_wanted:
            raise KeyboardInterrupt
        self._is_wanted = True
