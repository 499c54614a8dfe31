"""Measures accuracy on official test parts beside rivals: python -m benchmarks.accuracy [SET...].

Prints a table for each set and writes ``benchmarks/results/accuracy/SET.json`` after every method.
A run that was stopped continues; ``--fresh`` measures everything anew.
"""

from collections.abc import Callable, Iterator
from functools import partial

import click
import numpy as np
from rich.console import Console

from benchmarks.accuracy.data_sets import LOADERS, DataSet, load_data_set
from benchmarks.accuracy.results import SetResults, describe_results, load_results
from benchmarks.accuracy.rivals import NAMES, score_rival
from benchmarks.accuracy.training import Result, score_forecasts, train_and_score
from benchmarks.environment import describe_environment
from models.series import FloatArray

_RIVAL_PACKAGES = ("statsforecast",)


def measure_set(data: DataSet, measured: SetResults, num_seeds: int, console: Console) -> None:
    """Score every method that has no result yet."""
    for method, measure in _methods(data, num_seeds):
        if method in measured.results:
            continue
        with console.status(f"{data.name}: {method}"):
            for name, result in measure().items():
                measured.add(name, result)
        console.print(f"{data.name}: {method} done")


Measure = Callable[[], dict[str, Result]]


def _methods(data: DataSet, num_seeds: int) -> Iterator[tuple[str, Measure]]:
    for name in NAMES:
        yield name, partial(_measure_rival, name, data)
    if num_seeds:
        yield "gatecast", partial(_measure_gatecast, data, num_seeds)


def _measure_rival(name: str, data: DataSet) -> dict[str, Result]:
    return {name: score_rival(name, data)}


def _measure_gatecast(data: DataSet, num_seeds: int) -> dict[str, Result]:
    """Train with the defaults; ``gatecast`` is the first seed, as a user would get it."""
    runs = [train_and_score(data, {"seed": seed}) for seed in range(1, num_seeds + 1)]
    results = {f"gatecast, seed {n}": run for n, (run, _) in enumerate(runs, 1) if n > 1}
    if num_seeds > 1:
        forecasts = np.stack([forecasts for _, forecasts in runs])
        results[f"gatecast, median of {num_seeds} seeds"] = _score_median(data, runs, forecasts)
    return results | {"gatecast": runs[0][0]}


def _score_median(
    data: DataSet, runs: list[tuple[Result, FloatArray]], forecasts: FloatArray
) -> Result:
    seconds = sum(run.seconds for run, _ in runs)
    return Result(score_forecasts(data, np.median(forecasts, axis=0)), seconds)


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(LOADERS)))
@click.option("--seeds", default=1, help="Forecasters trained on each set; 0: rivals alone.")
@click.option("--fresh", is_flag=True, help="Measure again what there are results of.")
def main(names: tuple[str, ...], seeds: int, *, fresh: bool) -> None:
    """Measure accuracy on the sets NAMES, on all if none is named."""
    console = Console()
    environment = describe_environment(_RIVAL_PACKAGES)
    for key, value in environment.items():
        console.print(f"{key}: {value}")
    for name in names or LOADERS:
        measured = SetResults(name, environment, {}) if fresh else load_results(name, environment)
        measure_set(load_data_set(name), measured, seeds, console)
        console.print(describe_results(measured))


if __name__ == "__main__":
    main()
