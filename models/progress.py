"""What a fit tells while it runs: a progress line on the terminal and the learning curve."""

from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from typing_extensions import override


@dataclass(frozen=True, slots=True)
class Check:
    """Mean losses at one look at the held-back windows; ``validation_loss`` None without any."""

    step: int
    training_loss: float
    validation_loss: float | None


class LearningCurve(Callback):
    """Records a ``Check`` at the end of every epoch; part of the checkpoints."""

    def __init__(self) -> None:
        self.checks: list[Check] = []
        self._losses: list[float] = []

    @property
    def newest_loss(self) -> float:
        """The loss of the newest batch, over all processes."""
        return self._losses[-1]

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._losses.clear()

    @override
    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self._losses.append(float(trainer.strategy.reduce(outputs["loss"], reduce_op="mean")))

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        validation = trainer.callback_metrics.get("validation_loss")
        check = Check(
            step=trainer.global_step,
            training_loss=sum(self._losses) / len(self._losses),
            validation_loss=None if validation is None else float(validation),
        )
        self.checks.append(check)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"checks": [asdict(check) for check in self.checks]}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.checks = [Check(**check) for check in state_dict["checks"]]


class ProgressLine(Callback):
    """Shows steps, time left and losses of one fit; ``curve`` is told of each step before it."""

    def __init__(
        self, console: Console, title: str, *, max_steps: int, curve: LearningCurve
    ) -> None:
        self._curve = curve
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
            console=console,
        )
        self._task: TaskID = self._progress.add_task(title, total=max_steps, losses="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    @override
    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        losses = f"loss {self._curve.newest_loss:.4f}"
        validation = trainer.callback_metrics.get("validation_loss")
        if validation is not None:
            losses += f", held back {float(validation):.4f}"
        self._progress.update(self._task, completed=trainer.global_step, losses=losses)
