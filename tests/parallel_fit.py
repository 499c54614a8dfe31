"""What processes of tests do: functions that new processes can import."""

import json
import os
import signal
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from models.config import NetworkConfig
from models.fitting import Fit, Place, fit_forecaster
from models.processes import ALONE, Processes, meet
from models.series import SeriesSet
from models.training import TrainingOptions

LOSSES = "losses.json"


def fit(
    items: SeriesSet,
    config: NetworkConfig,
    options: TrainingOptions,
    directory: Path,
    processes: Processes = ALONE,
) -> Fit:
    """Fit, and let the main process write the losses."""
    place = Place(directory / "work", Console(quiet=True), processes)
    fitted = fit_forecaster(items, config, options=options, place=place)
    if processes.is_main:
        checks = [asdict(check) for check in fitted.checks]
        (directory / LOSSES).write_text(json.dumps(checks))
    return fitted


def fit_with_another(
    items: SeriesSet, config: NetworkConfig, options: TrainingOptions, directory: Path
) -> None:
    """Fit as one of two."""
    with meet(2, 1) as processes:
        fit(items, config, options, directory, processes)


def lose_one() -> None:
    """Wait for the other one of two, which the system kills."""
    with meet(2, 1) as processes:
        if not processes.is_main:
            os.kill(os.getpid(), signal.SIGKILL)
        processes.wait()


def fail_in_one() -> None:
    """Wait for the other one of two, which has a bug."""
    with meet(2, 1) as processes:
        if not processes.is_main:
            _ = 1 // (processes.rank - 1)
        processes.wait()
