"""Tries variants on held-out training data: python -m benchmarks.accuracy.trials SET NAME=VALUE...

Nothing here touches a test part. Every trial becomes a line of ``results/accuracy/trials.jsonl``.
"""

import json
from typing import Any

import click

from benchmarks.accuracy.data_sets import LOADERS, load_data_set
from benchmarks.accuracy.results import DIRECTORY
from benchmarks.accuracy.training import train_and_score

TRIALS = DIRECTORY / "trials.jsonl"


def try_variant(set_name: str, variant: dict[str, Any], num_seeds: int) -> dict[str, Any]:
    """Train one variant with several seeds on the hold-out of a set; return the mean scores."""
    data = load_data_set(set_name).held_out
    results = [
        train_and_score(data, variant | {"seed": seed})[0] for seed in range(1, num_seeds + 1)
    ]
    return {
        "set": set_name,
        "variant": variant,
        "mase": round(sum(r.scores.mase for r in results) / num_seeds, 4),
        "scaled_quantile_loss": round(
            sum(r.scores.scaled_quantile_loss for r in results) / num_seeds, 4
        ),
        "coverage_80": round(sum(r.scores.coverage_80 for r in results) / num_seeds, 3),
        "each": [round(r.scores.mase, 4) for r in results],
        "axes": [r.transform for r in results],
        "steps": [r.num_steps for r in results],
        "seconds": round(sum(r.seconds for r in results), 1),
    }


@click.command()
@click.argument("set_name", type=click.Choice(list(LOADERS)))
@click.argument("assignments", nargs=-1)
@click.option("--seeds", default=3, help="How many seeds the figures are the mean of.")
def main(set_name: str, assignments: tuple[str, ...], seeds: int) -> None:
    """Try one variant, such as ``max_steps=300 transform='"identity"'``; values are JSON."""
    pairs = (assignment.split("=", 1) for assignment in assignments)
    variant = {name: json.loads(value) for name, value in pairs}
    line = json.dumps(try_variant(set_name, variant, seeds))
    print(line)
    TRIALS.parent.mkdir(parents=True, exist_ok=True)
    with TRIALS.open("a") as file:
        file.write(line + "\n")


if __name__ == "__main__":
    main()
