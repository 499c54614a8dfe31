"""A run in a directory: begun, continued after Ctrl-C, finished into a checkpoint."""

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from app.artifact.card import Training
from app.errors import InvalidInputError
from models.picture import draw_learning_curve
from models.run import PICTURE_FILE, WORK_DIRECTORY, begin_work
from models.sequences.checkpoint import (
    DESCRIPTION_FILE,
    SequenceCheckpoint,
    save_sequence_checkpoint,
)
from models.sequences.config import SequenceConfig
from models.sequences.data import SequenceFindings
from models.sequences.defaults import max_length
from models.sequences.examples import ExampleSet
from models.sequences.fitting import SequenceFit, fit_sequences
from models.sequences.holdout import LEAST_EXAMPLES
from models.sequences.training import SequenceTraining

_PLAN_FILE = "sequences-plan.json"
_FORECASTER_FILE = "forecaster.json"


@dataclass(frozen=True, slots=True)
class SequencePlan:
    """What a run is about; a run continues only the work of an equal plan.

    Attributes:
        items: What to learn from.
        config: What to build.
        options: How to train it.
        findings: Which columns the data came from.
        targets: Columns of the answers.
        description: For the people who read the card.
    """

    items: ExampleSet
    config: SequenceConfig
    options: SequenceTraining
    findings: SequenceFindings
    targets: tuple[str, ...]
    description: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of everything the weights depend on."""
        settings = json.dumps([asdict(self.config), asdict(self.options)], sort_keys=True)
        return hashlib.sha256((self.items.digest + settings).encode()).hexdigest()

    def check(self) -> None:
        """Check that there is enough to learn from.

        Raises:
            InvalidInputError: There is not.
        """
        count, kind = self.items.num_answered, "tagged " * (self.items.task == "tag")
        if count < LEAST_EXAMPLES:
            raise InvalidInputError(
                f"{count} {kind}sequences are too few to learn from and to hold some back; "
                f"at least {LEAST_EXAMPLES} are needed"
            )


def prepare_directory(plan: SequencePlan, directory: Path, *, overwrite: bool) -> bool:
    """Make ``directory`` ready for ``plan``; return whether it holds work to continue.

    Raises:
        InvalidInputError: It holds a finished model, or the unfinished work of another plan.
    """
    work = directory / WORK_DIRECTORY
    begun = work / _PLAN_FILE
    if overwrite:
        (directory / DESCRIPTION_FILE).unlink(missing_ok=True)
        if begun.exists():
            shutil.rmtree(work)
    for name in (DESCRIPTION_FILE, _FORECASTER_FILE):
        if (directory / name).exists():
            raise InvalidInputError(f"{directory} holds a trained model; choose another --output")
    return begin_work(begun, plan.digest)


def train_sequences(
    plan: SequencePlan, directory: Path, console: Console
) -> tuple[SequenceCheckpoint, SequenceFit]:
    """Train in a prepared ``directory``, and write the checkpoint and the learning curve into it.

    Raises:
        KeyboardInterrupt: The user stopped it; a run of the same plan continues.
    """
    work = directory / WORK_DIRECTORY
    fit = fit_sequences(
        plan.items, plan.config, options=plan.options, directory=work, console=console
    )
    checkpoint = _to_checkpoint(plan, fit)
    draw_learning_curve(
        fit.checks, directory / PICTURE_FILE, held_back="held-back sequences", loss="loss"
    )
    save_sequence_checkpoint(checkpoint, directory)
    shutil.rmtree(work)
    return checkpoint, fit


def _to_checkpoint(plan: SequencePlan, fit: SequenceFit) -> SequenceCheckpoint:
    settings = asdict(plan.config) | asdict(plan.options) | {"num_steps": fit.best_step}
    settings |= {"num_held_back": fit.num_held_back}
    return SequenceCheckpoint(
        network=fit.network,
        max_length=max_length(plan.items),
        training=Training(
            data_digest=plan.items.digest,
            num_series=len(plan.items.examples),
            num_observations=plan.items.num_steps,
            seed=plan.options.seed,
            config=settings,
        ),
        item=plan.findings.item,
        time=plan.findings.time,
        targets=plan.targets,
        baseline=fit.baseline,
        description=plan.description,
    )
