"""Puts an artifact together, and what passed verification into the model repository."""

import os
import shutil
import uuid
from pathlib import Path

from app.artifact.directory import MODEL_FILE, MODEL_NAME_PATTERN
from app.artifact.metadata import to_metadata
from app.artifact.seal import check_seal, seal
from app.errors import ArtifactError, InvalidInputError
from export.card import to_card, to_golden_case
from export.figures import Verification
from export.graph import to_bytes, to_onnx
from models.checkpoint import Checkpoint

_STAGED_PREFIX = ".staged-"


def to_artifact(checkpoint: Checkpoint) -> bytes:
    """Return the sealed artifact of ``checkpoint``: graph, card and golden case in one file.

    Raises:
        ArtifactError: The exporter did not give the graph that serving needs.
    """
    card = to_card(checkpoint)
    metadata = to_metadata(card, to_golden_case(checkpoint.network, card))
    return seal(to_bytes(to_onnx(checkpoint.network, metadata)))


def check_model_name(model_name: str) -> None:
    """Check that ``model_name`` can name a model.

    Raises:
        InvalidInputError: It can not.
    """
    if not MODEL_NAME_PATTERN.fullmatch(model_name):
        raise InvalidInputError(
            "a model name begins with a letter or digit and holds at most 128 letters, digits, "
            "dots, dashes and underscores"
        )


def publish(
    model: bytes, verification: Verification, *, model_name: str, model_repository: Path
) -> Path:
    """Write ``model`` as the next version of ``model_name``.

    The version appears as a whole or not at all: it is staged beside its place, forced to disk and
    renamed. Concurrent calls get different versions.

    Returns:
        The new file, ``<model_repository>/<model_name>/<model_version>/model.onnx``.

    Raises:
        ArtifactError: The verification failed, or was of another file.
        InvalidInputError: ``model_name`` can not name a model.
    """
    check_model_name(model_name)
    _check_verified(model, verification)
    directory = model_repository / model_name
    directory.mkdir(parents=True, exist_ok=True)
    staged = directory / f"{_STAGED_PREFIX}{uuid.uuid4().hex}"
    try:
        staged.mkdir()
        _write(staged / MODEL_FILE, model)
        _force_to_disk(staged)
        version = _rename_to_next_version(staged)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    for parent in (directory, model_repository):
        _force_to_disk(parent)
    return version / MODEL_FILE


def _check_verified(model: bytes, verification: Verification) -> None:
    if check_seal(model) != verification.digest:
        raise ArtifactError("refusing to publish: the verification is of another file")
    if not verification.passed:
        worst = verification.failures[0]
        raise ArtifactError(
            f"refusing to publish: {worst.name} is {worst.value:.1e} (limit {worst.limit:.0e})"
        )


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _rename_to_next_version(staged: Path) -> Path:
    while True:
        taken = [
            int(e.name) for e in staged.parent.iterdir() if e.name.isascii() and e.name.isdigit()
        ]
        target = staged.parent / str(max(taken, default=0) + 1)
        try:
            # A directory never replaces one that holds files: the slower of two exports tries on.
            return staged.rename(target)
        except OSError:
            if not target.exists():
                raise


def _force_to_disk(directory: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # Windows has no such call for directories
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
