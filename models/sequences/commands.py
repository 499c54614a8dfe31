"""The commands ``train --task classify``, ``regress`` and ``tag``, and ``score``."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console

from app.artifact.sequence_card import TaskAccuracy
from app.errors import InvalidInputError
from models.commands import ColumnNames
from models.report import describe_reasons
from models.sequences.checkpoint import (
    DESCRIPTION_FILE,
    SequenceCheckpoint,
    is_sequence_checkpoint,
    load_sequence_checkpoint,
    save_sequence_checkpoint,
)
from models.sequences.config import SequenceConfig
from models.sequences.data import SequenceOptions, load_examples
from models.sequences.defaults import choose_config, choose_training, fields_of, list_reasons
from models.sequences.report import describe_examples, describe_measures
from models.sequences.run import SequencePlan, prepare_directory, train_sequences
from models.sequences.scores import COMMONEST, MEAN, Measure, measure
from models.sequences.training import SequenceTraining

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_DIRECTORY = click.Path(file_okay=False, path_type=Path)
_POSITIVE = click.IntRange(min=1)
_STOPPED_BY_USER = 130


@click.command("train")
@click.argument("data", type=_FILE)
@click.option(
    "--task", type=click.Choice(["classify", "regress", "tag"]), required=True, help="What to do."
)
@click.option("--target", "targets", multiple=True, required=True, help="Column to find.")
@click.option("--output", type=_DIRECTORY, required=True, help="Where the checkpoint goes.")
@click.option("--item", help="Column that names the sequence; item_id or unique_id if not given.")
@click.option("--time", help="Column that orders its steps; timestamp or ds if there is one.")
@click.option("--features", type=ColumnNames(), help="Columns to read; all others with numbers.")
@click.option("--cell", type=click.Choice(["lstm", "gru"]), help="Kind of recurrent layer.")
@click.option("--hidden-size", type=_POSITIVE, help="Units in a layer and direction.")
@click.option("--num-layers", type=_POSITIVE, help="Recurrent layers.")
@click.option("--members", "num_members", type=_POSITIVE, help="Networks that are averaged.")
@click.option(
    "--bidirectional/--forwards",
    "is_bidirectional",
    default=None,
    help="Read sequences from both ends, or from the first step to the last.",
)
@click.option(
    "--pooling",
    type=click.Choice(["last", "mean", "max", "attention"]),
    help="How steps become one answer.",
)
@click.option("--dropout", type=click.FloatRange(0, 0.9), help="Of units, in training.")
@click.option("--input-noise", type=click.FloatRange(0, 1), help="On scaled features, in training.")
@click.option("--level-noise", type=click.FloatRange(0, 1), help="The same at all steps of one.")
@click.option("--max-steps", type=_POSITIVE, help="Optimiser steps at most.")
@click.option("--patience", type=_POSITIVE, help="Checks without improvement before it stops.")
@click.option(
    "--held-back-share", type=click.FloatRange(0.02, 0.5), help="Of the sequences, to stop by."
)
@click.option("--batch-size", type=_POSITIVE, help="Sequences in a step.")
@click.option("--learning-rate", type=click.FloatRange(0, 1, min_open=True), help="At first.")
@click.option("--seed", type=click.IntRange(min=0), help="Of everything random.")
@click.option("--description", default="", help="A sentence for the model's card.")
@click.option("--overwrite", is_flag=True, help="Replace what is in the output directory.")
def train_task(data: Path, output: Path, **given: Any) -> None:
    """Train a model that classifies, regresses or tags the sequences of DATA.

    DATA is a CSV or Parquet file with one row per item and step. A sequence has the same answer in
    each of its rows, to tag one in each row. After Ctrl-C the same command continues.
    """
    console = Console()
    if given["task"] == "tag" and given["pooling"]:
        raise click.UsageError("--pooling has no place in --task tag: each step has its answer")
    options = SequenceOptions(**fields_of(SequenceOptions, given))
    items, findings = load_examples(data, options)
    wished = {n: v for n, v in given.items() if n not in {"task", "targets", "features"}}
    plan = SequencePlan(
        items=items,
        config=choose_config(items, fields_of(SequenceConfig, wished)),
        options=choose_training(items, fields_of(SequenceTraining, wished)),
        findings=findings,
        targets=options.targets,
        description=given["description"],
    )
    plan.check()
    wanted = {name for name, value in wished.items() if value is not None}
    console.print(describe_examples(items, findings))
    reasons = list_reasons(items, plan.config, plan.options, wanted)
    console.print(describe_reasons(reasons))
    if prepare_directory(plan, output, overwrite=given["overwrite"]):
        console.print("continuing the training that was stopped")
    _run(plan, output, console)


def _run(plan: SequencePlan, output: Path, console: Console) -> None:
    try:
        checkpoint, fit = train_sequences(plan, output, console)
    except KeyboardInterrupt:
        console.print("stopped; the same command continues")
        raise click.exceptions.Exit(_STOPPED_BY_USER) from None
    title = f"{fit.num_held_back} held-back sequences, which training stopped by"
    console.print(describe_measures(fit.measures, title, _baseline_name(checkpoint)))
    if plan.items.task != "regress":
        temperature = float(fit.network.temperature)
        console.print(f"temperature {temperature:.3f}, fitted on the held-back sequences")
    console.print(f"best after {fit.best_step} steps; wrote {output / DESCRIPTION_FILE}")


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("data", type=_FILE)
@click.option(
    "--record", "data_set", help="Write the figures into the card, as of a set of this name."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of a table.")
def score(checkpoint: Path, data: Path, data_set: str | None, *, as_json: bool) -> None:
    """Score the model in CHECKPOINT, which classifies, regresses or tags, on all of DATA.

    Beside it stands the answer that needs no reading: the shares of the classes in the training
    data, or their mean. Data that training has seen flatter the model.
    """
    if not is_sequence_checkpoint(checkpoint):
        raise InvalidInputError(
            f"{checkpoint} holds no model that classifies, regresses or tags; "
            "`gatecast backtest` scores forecasters"
        )
    trained = load_sequence_checkpoint(checkpoint)
    items, findings = load_examples(data, options_of(trained))
    measures = measure(trained.network, items, np.array(trained.baseline))
    if data_set is not None:
        recorded = _to_accuracy(trained, data_set, len(items.examples), measures)
        trained = replace(trained, accuracy=(*trained.accuracy, *recorded))
        save_sequence_checkpoint(trained, checkpoint)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in measures]))
        return
    console = Console()
    console.print(describe_examples(items, findings))
    title = f"{len(items.examples)} sequences"
    console.print(describe_measures(measures, title, _baseline_name(trained)))
    if trained.training.data_digest == items.digest:
        console.print("the model was trained on these very data: answers to new data err more")


def options_of(trained: SequenceCheckpoint) -> SequenceOptions:
    """Return how to read a file into the columns and classes that ``trained`` knows."""
    config = trained.network.config
    return SequenceOptions(
        task=config.task,
        targets=trained.targets,
        features=config.features,
        item=trained.item,
        time=trained.time,
        classes=config.classes,
    )


def _to_accuracy(
    trained: SequenceCheckpoint, data_set: str, num_sequences: int, measures: tuple[Measure, ...]
) -> list[TaskAccuracy]:
    return [
        TaskAccuracy(
            data_set=data_set,
            num_sequences=num_sequences,
            metric=one.name,
            value=one.value,
            baseline=_baseline_name(trained),
            baseline_value=one.baseline,
        )
        for one in measures
        if one.baseline is not None
    ]


def _baseline_name(trained: SequenceCheckpoint) -> str:
    return MEAN if trained.network.config.task == "regress" else COMMONEST
