"""Reads a model file, if it is a plain file of the repository and not too large."""

import os
import stat
from pathlib import Path

from app.errors import ArtifactError

MAX_BYTES = 2 * 2**30
"""ONNX files end at this size."""


def read_model_file(path: Path, *, root: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the bytes of the file at ``path``.

    Links are followed, as ConfigMaps and volumes are made of them, but not out of ``root``.

    Raises:
        ArtifactError: It is out of ``root``, no regular file, empty, too large or unreadable.
    """
    try:
        descriptor = _open_beneath(root, path)
        try:
            return _read(descriptor, max_bytes)
        finally:
            os.close(descriptor)
    except (OSError, RuntimeError) as error:  # a circle of links is a RuntimeError
        reason = error.strerror if isinstance(error, OSError) else "links in a circle"
        raise ArtifactError(f"can not read {path.name}: {reason}") from error


def _open_beneath(root: Path, path: Path) -> int:
    """Open what ``path`` leads to, part by part, so that no link can be slipped in meanwhile."""
    real_root = root.resolve(strict=True)
    real_path = path.resolve(strict=True)
    if not real_path.is_relative_to(real_root):
        raise ArtifactError(f"{path.name} is a link that leads out of the model repository")
    *folders, name = real_path.relative_to(real_root).parts
    folder = os.open(real_root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in folders:
            outer = folder
            folder = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=outer)
            os.close(outer)
        # Without O_NONBLOCK, opening a FIFO would wait for a writer for ever.
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    finally:
        os.close(folder)


def _read(descriptor: int, max_bytes: int) -> bytes:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise ArtifactError("not a regular file")
    if not status.st_size:
        raise ArtifactError("the file is empty")
    if status.st_size > max_bytes:
        raise ArtifactError(
            f"the file has {status.st_size} bytes; GATECAST_MAX_MODEL_BYTES allows {max_bytes}"
        )
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        return file.read(status.st_size)
