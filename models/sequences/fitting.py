"""From examples to a trained, calibrated network; resumed where Ctrl-C stopped it."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from rich.console import Console

from models.lightning_run import check_weights, train_to_end
from models.progress import Check
from models.sequences.calibration import fit_temperature
from models.sequences.config import SequenceConfig
from models.sequences.examples import ExampleSet
from models.sequences.holdout import split_examples
from models.sequences.network import SequenceNetwork
from models.sequences.scaling import find_scaling
from models.sequences.scores import Measure, answer_examples, class_shares, measure
from models.sequences.training import SequenceModule, SequenceTraining

_GRADIENT_CLIP = 1.0
_LEAST_IMPROVEMENT = 1e-4
_LAST, _BEST = "sequences", "sequences-best"


@dataclass(frozen=True, slots=True)
class SequenceFit:
    """A trained network and how it got there.

    Attributes:
        network: In evaluation mode, on the CPU, with its temperature.
        checks: Losses on the way.
        best_step: Optimiser steps after which the held-back loss was least: those of ``network``.
        num_held_back: Sequences that it was stopped and calibrated by.
        measures: Of those.
        baseline: What to answer without reading, see ``models.sequences.scores.measure``.
    """

    network: SequenceNetwork
    checks: tuple[Check, ...]
    best_step: int
    num_held_back: int
    measures: tuple[Measure, ...]
    baseline: tuple[float, ...]


def fit_sequences(
    items: ExampleSet,
    config: SequenceConfig,
    *,
    options: SequenceTraining,
    directory: Path,
    console: Console,
) -> SequenceFit:
    """Train on ``items``, continuing whatever a stopped run left in ``directory``.

    Args:
        items: What to learn from; a part of it is held back.
        config: What to build.
        options: How to train it.
        directory: Where unfinished work is kept; of this very data and these options only.
        console: Where progress is shown.

    Raises:
        KeyboardInterrupt: The user stopped it; the work up to the last check is kept.
        InvalidInputError: The weights grew out of all bounds.
    """
    directory.mkdir(parents=True, exist_ok=True)
    learned, held_back = split_examples(items, options.held_back_share, options.seed)
    torch.manual_seed(options.seed)
    network = SequenceNetwork(config)
    network.set_scaling(find_scaling(learned))
    module = SequenceModule(network, learned, held_back, options)
    checks = train_to_end(
        module,
        partial(_make_trainer, options, directory),
        title="training",
        max_steps=options.max_steps,
        console=console,
        last=directory / f"{_LAST}.ckpt",
    )
    best_step = _load_best(module, directory)
    network = module.network.cpu().eval()
    check_weights(network)
    if config.task != "regress":
        _calibrate(network, held_back)
    baseline = _find_baseline(learned)
    measures = measure(network, held_back, baseline)
    return SequenceFit(
        network=network,
        checks=checks,
        best_step=best_step,
        num_held_back=len(held_back.examples),
        measures=measures,
        baseline=tuple(map(float, baseline)),
    )


def _find_baseline(items: ExampleSet) -> Any:
    if items.task == "regress":
        return np.stack([example.answer for example in items.examples]).mean(0)
    return class_shares(items)


def _calibrate(network: SequenceNetwork, held_back: ExampleSet) -> None:
    probabilities, answers = answer_examples(network, held_back)
    logits = np.log(probabilities.clip(min=1e-30))  # the temperature is still 1
    network.temperature.fill_(fit_temperature(logits, answers.astype(np.int64)))


def _load_best(module: SequenceModule, directory: Path) -> int:
    """Give ``module`` the weights of the best check; return its step."""
    best: dict[str, Any] = torch.load(
        directory / f"{_BEST}.ckpt", map_location="cpu", weights_only=True
    )
    module.load_state_dict(best["state_dict"])
    return int(best["global_step"])


def _make_trainer(
    options: SequenceTraining, directory: Path, callbacks: list[Any]
) -> lightning.Trainer:
    monitor: dict[str, Any] = {"monitor": "validation_loss", "mode": "min"}
    stopping = EarlyStopping(
        **monitor, min_delta=_LEAST_IMPROVEMENT, patience=options.patience,
        check_on_train_epoch_end=True,
    )  # fmt: skip
    keeping = ModelCheckpoint(
        directory, filename=_LAST, enable_version_counter=False, save_on_train_epoch_end=True
    )
    best = ModelCheckpoint(
        directory,
        filename=_BEST,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
        save_weights_only=True,
        **monitor,
    )
    return lightning.Trainer(
        accelerator="gpu" if torch.cuda.is_available() else "cpu",
        devices=1,
        # Some pooling has no deterministic kernel on CUDA.
        deterministic=not torch.cuda.is_available(),
        max_epochs=options.num_checks,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        gradient_clip_val=_GRADIENT_CLIP,
        callbacks=[*callbacks, stopping, best, keeping],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
