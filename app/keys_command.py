"""``gatecast keys``: make API keys."""

import click

from app.keys import create_key


@click.group()
def keys() -> None:
    """Make API keys for the service."""


@keys.command()
@click.option("--comment", default="", help="Who the key is for; kept in the keys file.")
@click.option(
    "--admin", "is_admin", is_flag=True, help="Let the key load and unload models as well."
)
def create(comment: str, *, is_admin: bool) -> None:
    """Make a key: print it once, and the line to append to the keys file."""
    key = create_key(comment, is_admin=is_admin)
    click.echo(
        "The key, shown only now. Send it as `Authorization: Bearer` or `X-API-Key`:", err=True
    )
    click.echo(key.text)
    click.echo("\nAppend this line to the file that GATECAST_API_KEYS_FILE names:", err=True)
    click.echo(key.line)
