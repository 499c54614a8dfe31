"""The command ``train``: each task has options of its own."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import click
from typing_extensions import override

from models.commands import train as train_forecaster
from models.sequences.commands import train_task

_OPTION, _FORECAST = "--task", "forecast"
_TASKS = click.Option(
    [_OPTION],
    type=click.Choice([_FORECAST, "classify", "regress", "tag"]),
    default=_FORECAST,
    show_default=True,
    expose_value=False,
    help="What to learn; with another task, --help tells its options.",
)


class TaskCommand(click.Command):
    """Runs the command of the task that its arguments name, ``forecast`` where they name none."""

    @override
    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        command = train_forecaster if _names_forecast(args) else train_task
        return command.make_context(info_name, args, parent, **extra)

    @override
    def invoke(self, ctx: click.Context) -> Any:
        return ctx.command.invoke(ctx)

    @override
    def get_short_help_str(self, limit: int = 45) -> str:
        return "Train a model that forecasts, classifies, regresses or tags."


def _names_forecast(args: Sequence[str]) -> bool:
    given = [value for name, value in pairwise(args) if name == _OPTION]
    given += [text.partition("=")[2] for text in args if text.startswith(f"{_OPTION}=")]
    return not {"classify", "regress", "tag"} & {*given}


train_forecaster.params.append(_TASKS)
train = TaskCommand("train")
