"""A training run in a directory: begun, continued after Ctrl-C, finished into a checkpoint."""

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from app.artifact.card import Training
from app.errors import InvalidInputError
from app.holiday_calendar import HolidayCalendar
from models.checkpoint import DESCRIPTION_FILE, Checkpoint, save_checkpoint
from models.config import NetworkConfig
from models.fitting import Fit, Place, fit_forecaster
from models.picture import draw_learning_curve
from models.processes import ALONE, Processes
from models.series import SeriesSet
from models.training import TrainingOptions

PICTURE_FILE = "learning_curve.png"
WORK_DIRECTORY = "training"
STORE_DIRECTORY = "training-series"
_PLAN_FILE = "plan.json"
_SEQUENCES_FILE = "sequences.json"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is about; a run continues only the work of an equal plan.

    Attributes:
        items: What to learn from.
        config: What to build.
        options: How to train it.
        description: For the people who read the card.
        holidays: Where the calendar feature ``holiday`` comes from, if the network has it.
        start: Where the weights start; None for random ones.
    """

    items: SeriesSet
    config: NetworkConfig
    options: TrainingOptions
    description: str = ""
    holidays: HolidayCalendar | None = None
    start: Checkpoint | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of everything the weights depend on."""
        settings = json.dumps([asdict(self.config), asdict(self.options)], sort_keys=True)
        digest = hashlib.sha256((self.items.digest + settings).encode())
        if self.start is not None:
            for weight in self.start.network.state_dict().values():
                digest.update(weight.numpy().tobytes())
        return digest.hexdigest()


def check_free(directory: Path) -> None:
    """Check that ``directory`` holds no finished model.

    Raises:
        InvalidInputError: It does.
    """
    if (directory / DESCRIPTION_FILE).exists():
        raise InvalidInputError(f"{directory} holds a trained forecaster; --overwrite replaces it")
    if (directory / _SEQUENCES_FILE).exists():
        raise InvalidInputError(f"{directory} holds a trained model; choose another --output")


def prepare_directory(plan: Plan, directory: Path) -> bool:
    """Make ``directory`` ready for ``plan``; return whether it holds work to continue.

    Raises:
        InvalidInputError: It holds a finished forecaster, or the unfinished work of another plan.
    """
    check_free(directory)
    return begin_work(directory / WORK_DIRECTORY / _PLAN_FILE, plan.digest)


def begin_work(begun: Path, digest: str) -> bool:
    """Note in the file ``begun`` whose work its folder holds; return whether there is some already.

    Raises:
        InvalidInputError: The folder holds the unfinished work of a plan of another ``digest``.
    """
    work = begun.parent
    if begun.exists():
        if json.loads(begun.read_text())["digest"] != digest:
            raise InvalidInputError(
                f"{work.parent} holds unfinished training with other data or options; "
                "--overwrite begins anew"
            )
        return any(work.glob("*.ckpt"))
    work.mkdir(parents=True, exist_ok=True)
    begun.write_text(json.dumps({"digest": digest}))
    return False


def prepare_for_all(plan: Plan, directory: Path, processes: Processes, *, overwrites: bool) -> bool:
    """Let the main process make ``directory`` ready; return whether it holds work to continue.

    Raises:
        InvalidInputError: As ``prepare_directory``, or the processes do not share it or the plan.
    """
    is_continued = False
    if processes.is_main:
        if overwrites:
            clear_directory(directory)
        is_continued = prepare_directory(plan, directory)
    processes.wait()
    if not processes.is_main:
        _check_shared(plan, directory)
    return is_continued


def _check_shared(plan: Plan, directory: Path) -> None:
    begun = directory / WORK_DIRECTORY / _PLAN_FILE
    if not begun.exists():
        raise InvalidInputError(
            f"{directory} is not what the first process has there: all processes must share it"
        )
    if json.loads(begun.read_text())["digest"] != plan.digest:
        raise InvalidInputError("the processes were given different data or options")


def clear_directory(directory: Path) -> None:
    """Remove a forecaster and unfinished work from ``directory``, and nothing else."""
    (directory / DESCRIPTION_FILE).unlink(missing_ok=True)
    if (directory / WORK_DIRECTORY / _PLAN_FILE).exists():
        shutil.rmtree(directory / WORK_DIRECTORY)


def train_forecaster(
    plan: Plan, directory: Path, console: Console, processes: Processes = ALONE
) -> Checkpoint:
    """Train in a prepared ``directory``, and write the checkpoint and the learning curve into it.

    Of several processes the main one writes.

    Raises:
        KeyboardInterrupt: The user stopped it; a run of the same plan continues.
    """
    work = directory / WORK_DIRECTORY
    fit = fit_forecaster(
        plan.items,
        plan.config,
        options=plan.options,
        place=Place(work, console, processes),
        start=plan.start.network if plan.start else None,
    )
    checkpoint = _to_checkpoint(plan, fit)
    processes.wait()  # until nobody reads what is about to be removed
    if not processes.is_main:
        return checkpoint
    draw_learning_curve(fit.checks, directory / PICTURE_FILE)
    save_checkpoint(checkpoint, directory)
    shutil.rmtree(work)
    shutil.rmtree(directory / STORE_DIRECTORY, ignore_errors=True)
    return checkpoint


def _to_checkpoint(plan: Plan, fit: Fit) -> Checkpoint:
    settings = (
        asdict(fit.network.config) | asdict(plan.options) | {"num_steps": list(fit.num_steps)}
    )
    if plan.start is not None:
        settings["tuned_from"] = plan.start.training.model_dump(mode="json")
    return Checkpoint(
        network=fit.network,
        freq=plan.items.freq,
        context_length=plan.options.context_length,
        training=Training(
            data_digest=plan.items.digest,
            num_series=len(plan.items.series),
            num_observations=plan.items.num_observations,
            seed=plan.options.seed,
            config=settings,
        ),
        description=plan.description,
        holidays=plan.holidays,
    )
