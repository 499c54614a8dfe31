"""The commands ``gatecast export`` and ``gatecast verify``."""

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from app.artifact.directory import MODEL_FILE
from app.artifact.sequence_card import SequenceCard
from app.errors import ArtifactError
from app.runner.engine import OrtEngine
from export.figures import Figure, Verification
from export.publish import check_model_name, publish, to_artifact
from export.sequence_verify import verify_sequences
from export.sequences import to_sequence_artifact
from export.verify import verify as verify_artifact
from models.checkpoint import load_checkpoint
from models.sequences.checkpoint import is_sequence_checkpoint, load_sequence_checkpoint

_DIRECTORY = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command()
@click.argument("directory", type=_DIRECTORY)
@click.option("--name", "model_name", required=True, help="Name to serve the model under.")
@click.option(
    "--model-repository",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("model_repository"),
    show_default=True,
    help="Directory of models; made if need be.",
)
def export(directory: Path, model_name: str, model_repository: Path) -> None:
    """Export the checkpoint in DIRECTORY as the next version of a model.

    Nothing is published unless the file gives the same numbers as PyTorch, whatever shares its
    batch and, of a forecaster, whether or not its state was carried.
    """
    check_model_name(model_name)
    if is_sequence_checkpoint(directory):
        sequences = load_sequence_checkpoint(directory)
        model = to_sequence_artifact(sequences)
        verification = verify_sequences(model, sequences)
    else:
        checkpoint = load_checkpoint(directory)
        model = to_artifact(checkpoint)
        verification = verify_artifact(model, checkpoint)
    _print(verification)
    file = publish(model, verification, model_name=model_name, model_repository=model_repository)
    click.echo(f"published {file}")


@click.command()
@click.argument("model", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--checkpoint",
    "directory",
    type=_DIRECTORY,
    help="What the model was exported from, to compare it with PyTorch on many series.",
)
def verify(model: Path, directory: Path | None) -> None:
    """Prove that MODEL, a model.onnx or the directory of a version, gives the right numbers."""
    content = _read(model)
    if isinstance(OrtEngine.from_bytes(content, "cpu").any_card, SequenceCard):
        sequences = None if directory is None else load_sequence_checkpoint(directory)
        verification = verify_sequences(content, sequences)
    else:
        checkpoint = None if directory is None else load_checkpoint(directory)
        verification = verify_artifact(content, checkpoint)
    _print(verification)
    if not verification.passed:
        sys.exit(1)


def _read(model: Path) -> bytes:
    file = model / MODEL_FILE if model.is_dir() else model
    try:
        return file.read_bytes()
    except OSError as error:
        raise ArtifactError(f"can not read {file}: {error.strerror}") from error


def _print(verification: Verification) -> None:
    table = Table("figure", "measured", "limit", "", "how", caption=verification.digest)
    for figure in verification.figures:
        limit = "" if figure.limit is None else f"{figure.limit:.0e}" if figure.limit else "0"
        verdict = "" if figure.limit is None else "ok" if figure.passed else "FAILED"
        table.add_row(figure.name, _format(figure), limit, verdict, figure.remark)
    Console().print(table)


def _format(figure: Figure) -> str:
    if figure.unit:
        return f"{figure.value:.2f} {figure.unit}"
    is_count = float(figure.value).is_integer()
    return f"{figure.value:.0f}" if is_count else f"{figure.value:.1e}"
