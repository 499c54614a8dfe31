"""``gatecast serve``: every setting is an option."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import click
from pydantic.fields import FieldInfo

from app.settings import Settings, load_settings
from app.supervisor import Supervisor


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for name, field in reversed(Settings.model_fields.items()):
        command = _option(name, field)(command)
    return command


def _option(name: str, field: FieldInfo) -> Callable[[Callable[..., None]], Callable[..., None]]:
    flag = f"--{name.replace('_', '-')}"
    text = f"{field.description} [GATECAST_{name.upper()}; {field.default}]"
    if field.annotation is bool:
        return click.option(f"{flag}/--no-{flag[2:]}", name, default=None, help=text)
    return click.option(flag, name, default=None, help=text)


@click.command()
@_options
def serve(**options: Any) -> None:
    """Serve the models of a repository over HTTP.

    Options win over the environment variables named beside them.
    """
    given = {name: value for name, value in options.items() if value is not None}
    settings = load_settings(**given)
    sys.exit(asyncio.run(Supervisor(settings).run()))
