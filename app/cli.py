"""The ``gatecast`` command: its subcommands come from the entry points ``gatecast.commands``.

So the service never imports training code, and an installation without it still has ``gatecast
serve``.
"""

import sys
from importlib.metadata import EntryPoint, entry_points

import click
from typing_extensions import override

from app.errors import GatecastError, StartupError


class CommandGroup(click.Group):
    """A group whose commands are imported when they are called."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self.entry_points())

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry_point = self.entry_points().get(cmd_name)
        if entry_point is None:
            return None
        try:
            command: click.Command = entry_point.load()
        except ModuleNotFoundError as error:
            return _missing(cmd_name, error.name or "")
        return command

    def entry_points(self) -> dict[str, EntryPoint]:
        """Return where each command is defined."""
        return {entry.name: entry for entry in entry_points(group="gatecast.commands")}


def _missing(name: str, module: str) -> click.Command:
    def explain() -> None:
        raise StartupError(f"`gatecast {name}` needs {module}: pip install 'gatecast[train]'")

    return click.Command(
        name,
        callback=explain,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
        short_help=f"Not installed: needs {module}, from the train extra.",
    )


@click.group(cls=CommandGroup)
@click.version_option(package_name="gatecast")
def gatecast() -> None:
    """Train, export and serve recurrent forecasters."""


def main() -> None:
    """Run the command line; an expected error is one line and status 1."""
    try:
        gatecast()
    except GatecastError as error:
        click.echo(f"gatecast: {error}", err=True)
        sys.exit(1)
