"""How a network learns: Lightning around random batches, validation on held-back windows.

Two fits make a forecaster. The first holds back the last ``horizon`` steps of every series that is
long enough, and finds out after how many steps the forecasts of those were best. The second learns
from everything for that many steps, so that the newest values are not lost to the model.
"""

from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader
from typing_extensions import override

from models.batches import Drawing, RandomBatches, TrainingPart, ValidationBatches
from models.config import Transform
from models.learning_rate import one_cycle
from models.loss import quantile_losses, series_mean, target_mask
from models.network import Member
from models.shards import Shard, draw_like, drawing


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How to train; what is trained is a ``NetworkConfig``.

    Attributes:
        max_steps: Optimiser steps, fewer if the held-back windows stop improving.
        identity_share: How many times that, for networks on the axis of values.
        fixed_steps: Whether to hold nothing back and to take all ``max_steps``.
        calibration_windows: Last stretches of ``horizon`` steps that a trial training is to be
            without, to measure on them how wide intervals must be; 0 for no trial.
        batch_size: Series in a step.
        learning_rate: Peak of the one-cycle schedule.
        weight_decay: That of AdamW.
        mase_share: See ``models.batches.series_weights``.
        context_length: Longest stretch of a series in a batch.
        max_origins: Steps of each series to forecast from in a batch; chosen at random if more.
        steps_per_check: Steps between two looks at the held-back windows, each with a checkpoint.
        patience: Looks without improvement after which training stops.
        seed: Of everything random.
    """

    max_steps: int = 600
    identity_share: float = 1.0
    fixed_steps: bool = False
    calibration_windows: int = 0
    batch_size: int = 48
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    mase_share: float = 0.5
    context_length: int = 512
    max_origins: int = 128
    steps_per_check: int = 25
    patience: int = 10
    seed: int = 1

    def steps_on(self, axis: Transform) -> int:
        """Return the most optimiser steps for a network on ``axis``."""
        return round(self.max_steps * (self.identity_share if axis == "identity" else 1))

    @property
    def num_checks(self) -> int:
        """Looks at the held-back windows in a full run."""
        return -(-self.max_steps // self.steps_per_check)


class TrainingModule(LightningModule):
    """One fit of one network; an epoch is ``steps_per_check`` batches.

    Each of several processes has a shard of every batch, and losses of which the mean over the
    processes is the loss of the batch: so is the mean of the gradients.
    """

    def __init__(self, network: Member, part: TrainingPart, options: TrainingOptions) -> None:
        super().__init__()
        self.network = network
        self.options = options
        self._part = part
        levels = torch.tensor(network.config.quantile_levels)
        self.register_buffer("levels", levels, persistent=False)
        self.levels: Tensor
        self.register_buffer("held_back_loss", torch.zeros(()), persistent=False)
        self.held_back_loss: Tensor
        self._num_held_back = 0

    @property
    def shard(self) -> Shard:
        """The rows of each batch that this process has."""
        return Shard(self.trainer.global_rank, self.trainer.world_size)

    @override
    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        options = self.options
        how = Drawing(
            batch_size=options.batch_size,
            crop_length=options.context_length,
            seed=options.seed,
            shard=self.shard,
        )
        batches = RandomBatches(self._part, how, horizon=self.network.config.horizon)
        first = self.current_epoch * options.steps_per_check
        steps = range(first, min(first + options.steps_per_check, options.max_steps))
        return DataLoader(batches, batch_size=None, sampler=list(steps))

    @override
    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        batches = ValidationBatches(
            self._part,
            horizon=self.network.config.horizon,
            context_length=self.options.context_length,
            shard=self.shard,
        )
        self._num_held_back = batches.num_rows
        return DataLoader(batches, batch_size=None, shuffle=False)

    @override
    def on_train_epoch_start(self) -> None:
        # What is random in an epoch depends on its number alone, so that resuming changes nothing.
        torch.manual_seed(self.options.seed * 1_000_003 + self.current_epoch)

    @override
    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        num_rows = self.options.batch_size
        with drawing(self.shard, num_rows):
            origins, starts = self._choose_origins(batch)
            loss = self._loss(batch, origins, starts)
        return loss * (self.shard.count * len(origins) / num_rows)

    @override
    def on_validation_epoch_start(self) -> None:
        self.held_back_loss.zero_()

    @override
    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        origins = (batch["limits"] - 1).unsqueeze(-1)
        no_limit = batch | {"limits": torch.full_like(batch["limits"], 2**31)}
        self.held_back_loss += self._loss(no_limit, origins, origins[:, 0]) * len(origins)

    @override
    def on_validation_epoch_end(self) -> None:
        total = self.trainer.strategy.reduce(self.held_back_loss, reduce_op="sum")
        self.log("validation_loss", total / self._num_held_back)

    @override
    def configure_optimizers(self) -> Any:
        options = self.options
        optimiser = torch.optim.AdamW(
            self.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
        )
        schedule = one_cycle(optimiser, options.learning_rate, options.max_steps)
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _choose_origins(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Pick the steps to forecast from ``(batch, origins)`` and the first that counts."""
        rows, time = batch["past_target"].shape
        device = batch["past_target"].device
        two_seasons = max(2 * self.network.config.season, 4)
        starts = (batch["limits"] - 2).clamp(min=1, max=two_seasons) - 1
        if time <= self.options.max_origins:
            return torch.arange(time, device=device).expand(rows, -1), starts
        usable = (batch["limits"].clamp(max=time) - starts).clamp(min=1)
        share = draw_like(
            torch.empty((rows, self.options.max_origins), device=device), torch.rand_like
        )
        return starts[:, None] + (share * usable[:, None]).long(), starts

    def _loss(self, batch: dict[str, Tensor], origins: Tensor, starts: Tensor) -> Tensor:
        forecasts = self.network.forecast_steps(batch, origins)
        mask = target_mask(
            forecasts.observed,
            origins,
            limits=batch["limits"],
            horizon=self.network.config.horizon,
        )
        mask = mask & (origins >= starts[:, None]).unsqueeze(-1)
        return series_mean(quantile_losses(forecasts, origins, self.levels), mask, batch["weights"])
