"""Results of a run, one JSON file a set, and the table made of them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.accuracy.training import Result

DIRECTORY = Path(__file__).parent.parent / "results" / "accuracy"
_COLUMNS = {
    "mase": "MASE",
    "smape": "sMAPE",
    "scaled_quantile_loss": "scaled quantile loss",
    "weighted_quantile_loss": "weighted quantile loss",
    "coverage_80": "80 % coverage",
}


@dataclass(frozen=True, slots=True)
class SetResults:
    """What was measured on one set so far.

    Attributes:
        name: The set.
        environment: Hardware, versions and command.
        results: By method: scores, seconds, steps.
    """

    name: str
    environment: dict[str, str]
    results: dict[str, dict[str, Any]]

    def add(self, method: str, result: Result) -> None:
        """Record the result of one method, in the file too."""
        costs = {
            "seconds": result.seconds,
            "cpu_seconds": result.cpu_seconds,
            "peak_mebibytes": result.peak_mebibytes,
            "num_steps": result.num_steps,
            "transform": result.transform,
        }
        scores = {name: round(value, 5) for name, value in asdict(result.scores).items()}
        self.results[method] = scores | costs
        DIRECTORY.mkdir(parents=True, exist_ok=True)
        _path(self.name).write_text(json.dumps(asdict(self), indent=2) + "\n")


def _path(name: str) -> Path:
    return DIRECTORY / f"{name}.json"


def load_results(name: str, environment: dict[str, str]) -> SetResults:
    """Return what earlier runs measured on a set; nothing where versions or hardware differ."""
    if _path(name).exists():
        earlier = SetResults(**json.loads(_path(name).read_text()))
        if _without_command(earlier.environment) == _without_command(environment):
            return earlier
    return SetResults(name, environment, {})


def _without_command(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name != "command"}


def describe_results(measured: SetResults) -> Table:
    """Return a table of one set, the best MASE first."""
    table = Table(title=measured.name)
    for title in ("method", *_COLUMNS.values(), "seconds"):
        table.add_column(title, justify="left" if title == "method" else "right")
    for method, result in sorted(measured.results.items(), key=lambda pair: pair[1]["mase"]):
        figures = [f"{result[name]:.3f}" for name in _COLUMNS]
        table.add_row(method, *figures, f"{result['seconds']:.0f}")
    return table
