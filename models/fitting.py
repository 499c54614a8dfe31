"""From series to a trained network: two fits, each resumed where Ctrl-C stopped it."""

import json
import math
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy
from rich.console import Console

from models.batches import TrainingPart, series_weights
from models.calibration import measure_width
from models.config import NetworkConfig
from models.forecaster import Forecaster
from models.lightning_run import check_weights, train_to_end
from models.network import Member
from models.processes import ALONE, Processes
from models.progress import Check
from models.series import SeriesSet
from models.standardising import standardise_covariates
from models.training import TrainingModule, TrainingOptions

_GRADIENT_CLIP = 1.0
_LEAST_IMPROVEMENT = 1e-5
_SEED_STRIDE = 1000  # so that members of runs with neighbouring seeds differ


@dataclass(frozen=True, slots=True)
class Fit:
    """A trained forecaster and how it got there.

    Attributes:
        network: In evaluation mode, on the CPU.
        checks: Losses of the first member's fit that held windows back; of its only fit if there
            was none.
        num_steps: Optimiser steps of each member.
    """

    network: Forecaster
    checks: tuple[Check, ...]
    num_steps: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Stage:
    """One fit: its name on disk and on the terminal, what it sees, how long, from what weights."""

    name: str
    title: str
    part: TrainingPart
    options: TrainingOptions
    start: Member | None = None
    is_search: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run happens.

    Attributes:
        directory: Where unfinished work is kept, of these very data and options only; all processes
            see the same one.
        console: Where progress is shown.
        processes: Which train together.
    """

    directory: Path
    console: Console
    processes: Processes = ALONE


@dataclass(frozen=True, slots=True)
class _Course:
    """How all members are trained: on what, for how many steps, from what weights."""

    items: SeriesSet
    options: TrainingOptions
    steps: tuple[int, ...]
    starts: tuple[Member | None, ...]


def fit_forecaster(
    items: SeriesSet,
    config: NetworkConfig,
    *,
    options: TrainingOptions,
    place: Place,
    start: Forecaster | None = None,
) -> Fit:
    """Train the members on ``items``, continuing whatever a stopped run left at ``place``.

    The members of one axis differ by their seed alone, and share the number of steps. All processes
    end with the same weights.

    Args:
        items: Series with at least two values each.
        config: What to build.
        options: How to train it.
        place: Where it happens.
        start: Where the weights start, a forecaster of this very ``config``; None for random ones.

    Raises:
        KeyboardInterrupt: The user stopped it; the work up to the last check is kept.
        InvalidInputError: The weights grew out of all bounds.
    """
    place.directory.mkdir(parents=True, exist_ok=True)
    starts = start.list_members() if start else [None] * config.num_members
    searches = {
        member.transform: _search(items, member, options, place, first)
        for member, first in zip(config.members[: len(config.axes)], starts, strict=False)
    }
    steps = tuple(
        _best_step(searches[axis], options.steps_on(axis))
        for axis in (member.transform for member in config.members)
    )
    course = _Course(items, options, steps, tuple(starts))
    config = replace(config, width=config.width * _measure_width(course, config, place))
    networks, curves = _fit_members(course, config, place)
    checks = searches[config.axes[0]] or curves[0]
    return Fit(Forecaster.from_members(config, networks), checks, steps)


def _fit_members(
    course: _Course, config: NetworkConfig, place: Place, *, hold_back: int = 0
) -> tuple[list[Member], list[tuple[Check, ...]]]:
    name, aim = ("trial", " for the width of intervals") if hold_back else ("member", "")
    networks, curves = [], []
    for number, member in enumerate(config.members):
        stage = _Stage(
            name=f"{name}-{number}",
            title=f"training {number + 1} of {len(config.members)}{aim}",
            part=_training_part(course.items, member, course.options, hold_back=hold_back),
            options=replace(
                course.options,
                max_steps=course.steps[number],
                seed=course.options.seed + _SEED_STRIDE * number,
            ),
            start=course.starts[number],
        )
        network, checks = _run_stage(stage, member, place)
        networks.append(network)
        curves.append(checks)
    return networks, curves


def _measure_width(course: _Course, config: NetworkConfig, place: Place) -> float:
    """Train all members without the last stretches, and see how far off they are there."""
    hold_back = course.options.calibration_windows * config.horizon
    part = _training_part(course.items, config, course.options, hold_back=hold_back)
    if not part.list_held_back():
        return 1.0
    networks, _ = _fit_members(course, config, place, hold_back=hold_back)
    trial = Forecaster.from_members(config, networks)
    context_length = course.options.context_length
    return measure_width(trial, course.items, part.limits, context_length=context_length)


def _search(
    items: SeriesSet,
    member: NetworkConfig,
    options: TrainingOptions,
    place: Place,
    start: Member | None,
) -> tuple[Check, ...]:
    """Fit to all but the last windows; no checks where none is held back."""
    part = _training_part(items, member, options, hold_back=member.horizon)
    if options.fixed_steps or not part.list_held_back():
        return ()
    axis = member.transform
    done = place.directory / f"search-{axis}.json"
    if done.exists():
        return tuple(Check(**check) for check in json.loads(done.read_text()))
    title = f"finding the number of steps ({axis})"
    options = replace(options, max_steps=options.steps_on(axis))
    stage = _Stage(f"search-{axis}", title, part, options, start, is_search=True)
    _, checks = _run_stage(stage, member, place)
    if place.processes.is_main:
        done.write_text(json.dumps([asdict(check) for check in checks]))
    return checks


def _best_step(checks: tuple[Check, ...], otherwise: int) -> int:
    return min(checks, key=_held_back_loss).step if checks else otherwise


def _training_part(
    items: SeriesSet, config: NetworkConfig, options: TrainingOptions, *, hold_back: int
) -> TrainingPart:
    """Hold back the last steps of every series that keeps two seasons or horizons without them."""
    least = hold_back + max(2 * config.season, hold_back, 2)
    limits = tuple(length - hold_back if length >= least else length for length in items.lengths)
    weights = series_weights(
        items, limits, is_log=config.transform == "log", mase_share=options.mase_share
    )
    return TrainingPart(items, limits, weights)


def _run_stage(
    stage: _Stage, config: NetworkConfig, place: Place
) -> tuple[Member, tuple[Check, ...]]:
    torch.manual_seed(stage.options.seed)
    network = Member(config)
    if stage.start is None:
        standardise_covariates(network, stage.part.items)
    else:
        network.load_state_dict(stage.start.state_dict())
    module = TrainingModule(network, stage.part, stage.options)
    checks = train_to_end(
        module,
        partial(_make_trainer, stage, place),
        title=stage.title,
        max_steps=stage.options.max_steps,
        console=place.console,
        last=place.directory / f"{stage.name}.ckpt",
    )
    network = module.network.cpu().eval()
    check_weights(network)
    return network, checks


def _held_back_loss(check: Check) -> float:
    loss = check.validation_loss
    return loss if loss is not None and math.isfinite(loss) else math.inf


def _make_trainer(stage: _Stage, place: Place, callbacks: list[Any]) -> lightning.Trainer:
    options = stage.options
    if stage.is_search:
        stopping = EarlyStopping(
            "validation_loss",
            min_delta=_LEAST_IMPROVEMENT,
            patience=options.patience,
            check_on_train_epoch_end=True,
        )
        callbacks = [*callbacks, stopping]
    keeping = ModelCheckpoint(
        place.directory,
        filename=stage.name,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
    return lightning.Trainer(
        accelerator="gpu" if torch.cuda.is_available() else "cpu",
        devices=place.processes.num_devices,
        num_nodes=place.processes.num_nodes,
        strategy=_choose_strategy(place.processes),
        use_distributed_sampler=False,  # every batch is shared by its rows
        # cumsum has no deterministic kernel on CUDA.
        deterministic=not torch.cuda.is_available(),
        max_epochs=options.num_checks,
        reload_dataloaders_every_n_epochs=1,
        limit_val_batches=None if stage.is_search else 0,
        num_sanity_val_steps=0,
        gradient_clip_val=_GRADIENT_CLIP,
        callbacks=[*callbacks, keeping],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _choose_strategy(processes: Processes) -> DDPStrategy | str:
    if processes.count == 1:
        return "auto"
    return DDPStrategy(cluster_environment=LightningEnvironment(), broadcast_buffers=False)
