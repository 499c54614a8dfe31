"""The commands ``train`` and ``backtest``."""

import json
import math
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from typing_extensions import override

from app.errors import InvalidInputError
from models.backtest import Method, forecast_by_methods, rolling_windows, summarise
from models.backtest_pictures import draw_backtest
from models.calendar_columns import add_calendar, choose_calendar
from models.checkpoint import DESCRIPTION_FILE, load_checkpoint
from models.data import DataOptions, Understanding
from models.defaults import choose_config, choose_options, choose_season
from models.processes import (
    STOPPED_BY_USER,
    ProcessesError,
    meet,
    must_start,
    run_in_processes,
)
from models.reasons import list_reasons
from models.report import (
    describe_backtest,
    describe_calibration,
    describe_data,
    describe_reasons,
    describe_steps,
)
from models.run import STORE_DIRECTORY, Plan, check_free, prepare_for_all, train_forecaster
from models.sequences.checkpoint import is_sequence_checkpoint
from models.stored_data import Store, load_data
from models.stream import is_large
from models.training import TrainingOptions
from models.tuning import load_series_for, plan_tuning

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_DIRECTORY = click.Path(file_okay=False, path_type=Path)
_POSITIVE = click.IntRange(min=1)
_NETWORK_OPTIONS = (
    "cell",
    "hidden_size",
    "num_layers",
    "dropout",
    "window",
    "transform",
    "input_noise",
    "anchor_share",
    "num_members",
)
_FIXED_OPTIONS = (
    *_NETWORK_OPTIONS,
    "horizon",
    "season",
    "past_covariates",
    "future_covariates",
    "static_covariates",
    "static_categories",
    "calendar",
    "country",
)


class ColumnNames(click.ParamType[tuple[str, ...]]):
    """Column names with commas between them."""

    name = "names"

    @override
    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        return tuple(name.strip() for name in value.split(",") if name.strip())


@click.command()
@click.argument("data", type=_FILE)
@click.option("--horizon", type=_POSITIVE, help="Steps ahead to forecast; needed without --from.")
@click.option("--output", type=_DIRECTORY, required=True, help="Where the checkpoint goes.")
@click.option("--freq", help="Frequency, such as h, D, MS; inferred if not given.")
@click.option("--season", type=_POSITIVE, help="Steps in one season, 1 for none.")
@click.option("--past-covariates", type=ColumnNames(), default=(), help="Columns known so far.")
@click.option("--future-covariates", type=ColumnNames(), default=(), help="Columns known ahead.")
@click.option("--static-covariates", type=ColumnNames(), default=(), help="One number a series.")
@click.option("--static-categories", type=ColumnNames(), default=(), help="One text a series.")
@click.option("--calendar", is_flag=True, help="Learn from hours, weekdays, months and the like.")
@click.option("--holidays", "country", help="Learn from a country's holidays: DE, or DE-BY.")
@click.option(
    "--from",
    "start",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Checkpoint to go on from, with its network and columns.",
)
@click.option("--cell", type=click.Choice(["lstm", "gru"]), help="Kind of recurrent layer.")
@click.option("--hidden-size", type=_POSITIVE, help="Units in a layer.")
@click.option("--num-layers", type=_POSITIVE, help="Recurrent layers.")
@click.option("--dropout", type=click.FloatRange(0, 0.9), help="Between layers, in training.")
@click.option("--window", type=_POSITIVE, help="Recent values each step sees directly.")
@click.option(
    "--transform", type=click.Choice(["log", "identity", "both"]), help="Axis to work on."
)
@click.option("--input-noise", type=click.FloatRange(0, 1), help="Noise on the window.")
@click.option(
    "--anchor-share", type=click.FloatRange(0, 1), help="How far to draw to a damped trend."
)
@click.option("--context-length", type=_POSITIVE, help="Most recent steps to read.")
@click.option("--members", "num_members", type=_POSITIVE, help="Networks that are averaged.")
@click.option("--max-steps", type=_POSITIVE, help="Optimiser steps of each network.")
@click.option(
    "--search-steps/--fixed-steps",
    "search_steps",
    help="Find a number of steps up to --max-steps on held-back windows, or take them all.",
)
@click.option(
    "--calibration-windows",
    type=_POSITIVE,
    help="Horizons at the end to measure on how wide intervals must be, by a trial training.",
)
@click.option("--batch-size", type=_POSITIVE, help="Series in a step.")
@click.option("--learning-rate", type=click.FloatRange(0, 1, min_open=True), help="Its peak.")
@click.option("--seed", type=click.IntRange(min=0), help="Of everything random.")
@click.option("--description", default="", help="A sentence for the model's card.")
@click.option("--overwrite", is_flag=True, help="Replace what is in the output directory.")
@click.option(
    "--stream/--no-stream",
    default=None,
    help="Read a Parquet file part by part, or at once; by its number of rows if not given.",
)
@click.option("--devices", "num_devices", type=_POSITIVE, default=1, help="GPUs, or processes.")
@click.option("--num-nodes", type=_POSITIVE, default=1, help="Machines with as many devices each.")
def train(data: Path, output: Path, num_devices: int, num_nodes: int, **given: Any) -> None:
    """Train one forecaster on all series of DATA, a CSV or Parquet file in long format.

    Its columns are item_id, timestamp, target (or unique_id, ds, y). After Ctrl-C the same command
    continues. With --devices or --num-nodes, several processes share every batch.
    """
    _check_usage(given)
    if not given["overwrite"]:
        check_free(output)
    run = partial(_train, data, output, given, num_devices, num_nodes)
    try:
        if must_start(num_devices, num_nodes):
            run_in_processes(run, num_devices=num_devices, num_nodes=num_nodes)
        else:
            run()
    except KeyboardInterrupt:
        click.echo("stopped; the same command continues")
        raise click.exceptions.Exit(STOPPED_BY_USER) from None
    except ProcessesError as error:
        raise click.ClickException(str(error)) from error


def _check_usage(given: dict[str, Any]) -> None:
    if given["start"] is None:
        if given["horizon"] is None:
            raise click.UsageError("--horizon is needed")
        return
    fixed = [name for name in _FIXED_OPTIONS if _is_given(given[name])]
    if fixed:
        option = fixed[0].removeprefix("num_").replace("_", "-").replace("country", "holidays")
        raise click.UsageError(f"--{option} can not be given with --from: the checkpoint has it")


def _is_given(value: Any) -> bool:
    return value is not None and value is not False and value != ()


def _train(
    data: Path, output: Path, given: dict[str, Any], num_devices: int, num_nodes: int
) -> None:
    with meet(num_devices, num_nodes) as processes:
        console = Console(quiet=not processes.is_main)
        is_streamed = is_large(data) if given["stream"] is None else given["stream"]
        store = Store(output / STORE_DIRECTORY, processes) if is_streamed else None
        make_plan = _plan_anew if given["start"] is None else _plan_on
        plan, found = make_plan(data, given, store)
        if plan.options.batch_size < processes.count:
            raise InvalidInputError(
                f"a batch of {plan.options.batch_size} series can not be shared by "
                f"{processes.count} processes"
            )
        console.print(describe_data(plan.items, found))
        wanted = {name for name, value in given.items() if value is not None}
        console.print(describe_reasons(list_reasons(plan, wanted)))
        if prepare_for_all(plan, output, processes, overwrites=given["overwrite"]):
            console.print("continuing the training that was stopped")
        checkpoint = train_forecaster(plan, output, console, processes)
    steps = ", ".join(map(str, checkpoint.training.config["num_steps"]))
    console.print(f"trained for {steps} steps; wrote {output / DESCRIPTION_FILE}")


def _plan_anew(
    data: Path, given: dict[str, Any], store: Store | None
) -> tuple[Plan, Understanding]:
    items, found = load_data(data, DataOptions(**_given(DataOptions, given)), store)
    calendar = choose_calendar(items, is_cyclic=given["calendar"], country=given["country"])
    items = add_calendar(items, calendar, horizon=given["horizon"])
    season = choose_season(items) if found.is_season_inferred else items.season
    options = choose_options(items, season=season, wanted=_training_wishes(given))
    config = choose_config(
        items,
        horizon=given["horizon"],
        context_length=options.context_length,
        wanted={"season": season}
        | {name: given[name] for name in _NETWORK_OPTIONS if given[name] is not None},
    )
    if "log" in config.axes and items.has_negative_values:
        raise InvalidInputError(
            f"--transform {config.transform} can not hold the negative values of the target"
        )
    holidays = calendar.holidays if calendar else None
    return Plan(items, config, options, given["description"], holidays), found


def _plan_on(data: Path, given: dict[str, Any], store: Store | None) -> tuple[Plan, Understanding]:
    checkpoint = load_checkpoint(given["start"])
    items, found = load_series_for(checkpoint, data, given["freq"], store)
    plan = plan_tuning(
        checkpoint, items, wanted=_training_wishes(given), description=given["description"]
    )
    return plan, found


def _training_wishes(given: dict[str, Any]) -> dict[str, Any]:
    return _given(TrainingOptions, given) | {"fixed_steps": not given["search_steps"]}


def _given(kind: type[Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return the options the user gave that are fields of ``kind``."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in given.items() if name in names and value is not None}


def _without_nan(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Put null in place of a measure that is not defined, as JSON has no NaN."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in pairs
    }


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("data", type=_FILE)
@click.option("--windows", type=_POSITIVE, default=1, help="Windows a series, newest last.")
@click.option("--horizon", type=_POSITIVE, help="Steps of a window; the model's own if not given.")
@click.option("--freq", help="Frequency of DATA; inferred if not given.")
@click.option("--rivals", is_flag=True, help="Score AutoETS and dynamic Theta too.")
@click.option("--pictures", type=_DIRECTORY, help="Where fan charts and reliability are drawn.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of tables.")
def backtest(checkpoint: Path, data: Path, **given: Any) -> None:
    """Score the forecaster in CHECKPOINT on the last windows of each series of DATA.

    The seasonal naive forecast is scored beside it. Windows that training has seen flatter the
    model: give it data that reach further than those it learned from. The rivals are those of
    statsforecast, one fit a window.
    """
    if is_sequence_checkpoint(checkpoint):
        raise InvalidInputError(
            f"{checkpoint} holds no forecaster, so there is nothing to look back from; "
            "`gatecast score` scores models that classify, regress or tag"
        )
    trained = load_checkpoint(checkpoint)
    config = trained.network.config
    items, found = load_series_for(trained, data, given["freq"])
    horizon = given["horizon"] or config.horizon
    if horizon > config.horizon:
        raise InvalidInputError(f"--horizon is {horizon}; the model forecasts {config.horizon}")
    windows = rolling_windows(items, horizon=horizon, num_windows=given["windows"])
    forecasts = forecast_by_methods(
        trained.network,
        windows,
        season=items.season,
        horizon=horizon,
        context_length=trained.context_length,
        rivals=_rivals(items.season, horizon) if given["rivals"] else {},
    )
    result = summarise(forecasts)
    if given["pictures"]:
        draw_backtest(forecasts, result, given["pictures"])
    if given["as_json"]:
        click.echo(json.dumps(asdict(result, dict_factory=_without_nan)))
        return
    console = Console()
    console.print(describe_data(items, found))
    for table in (describe_backtest(result, "backtest"), describe_steps(result)):
        console.print(table)
    console.print(describe_calibration(result))
    if trained.training.data_digest == items.digest:
        console.print("the model was trained on these very data: a forecast of new data errs more")


def _rivals(season: int, horizon: int) -> dict[str, Method]:
    try:
        from models.rivals import RIVALS, forecast_rival  # noqa: PLC0415 - an extra brings it
    except ImportError as error:
        raise InvalidInputError("--rivals needs statsforecast: pip install '.[rivals]'") from error
    return {name: partial(forecast_rival, name, season=season, horizon=horizon) for name in RIVALS}
