"""What the terminal shows once the service is ready."""

import shlex
from collections.abc import Sequence
from importlib.metadata import version

import click

from app.lifeline import ReadyReport


def print_banner(
    report: ReadyReport, addresses: Sequence[tuple[str, int]], *, needs_key: bool
) -> None:
    """Print the address, the device, the models and one ``curl`` line that works when pasted.

    Args:
        report: What a runner said when it was ready.
        addresses: Host and port of the service and, where it has one, of its port for
            administrators.
        needs_key: Whether a request must carry an API key.
    """
    address, *admin_addresses = (
        f"http://{f'[{host}]' if ':' in host else host}:{port}" for host, port in addresses
    )
    click.echo(f"gatecast {version('gatecast')}  {address}  (documentation: {address}/docs)")
    for admin_address in admin_addresses:
        click.echo(f"admin    {admin_address}")
    click.echo(f"device   {report.device}{f' ({report.note})' if report.note else ''}")
    for model in report.models:
        about = f"refused: {model.reason}" if model.reason else model.summary
        click.echo(f"model    {model.model_name} version {model.model_version}: {about}")
    ready = [model for model in report.models if not model.reason]
    if not ready:
        click.echo("model    none is ready: every forecast will be refused")
        return
    sound = next((model for model in ready if model.example), None)
    if sound is None:
        click.echo(f"try      curl -s {address}/v2/models/{ready[0].model_name}")
        return
    key = " -H 'Authorization: Bearer YOUR_KEY'" if needs_key else ""
    click.echo(
        f"try      curl -s {address}/v1/models/{sound.model_name}/{sound.task}{key}"
        f" -H 'Content-Type: application/json' -d {shlex.quote(sound.example)}"
    )
