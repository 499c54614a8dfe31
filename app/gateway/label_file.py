"""Keeps labels that are set while the service runs: in the ``config.toml`` of their model.

What people have written there stays, comments too. The file is replaced whole, and only once the
runners have taken the change, so that it never says what they refuse.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Generator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import tomlkit

from app.errors import NotSupportedError
from app.model_config import CONFIG_FILE, LabelChange, parse_config


def keep_label(model_directory: Path, change: LabelChange, apply: Callable[[], None]) -> None:
    """Write a change down, between whose preparation and completion ``apply`` is called.

    Other processes that would do the same meanwhile wait. Where ``apply`` raises, the file stays as
    it is.

    Raises:
        NotSupportedError: The file can not be written, such as on a read-only file system.
        ConfigError: The file is wrong, or would be.
    """
    path = model_directory / CONFIG_FILE
    staged = model_directory / f".{CONFIG_FILE}.staged"
    try:
        with _locked(model_directory):
            try:
                _stage(path, staged, change)
                apply()
                staged.replace(path)
            finally:
                staged.unlink(missing_ok=True)
    except OSError as error:
        raise NotSupportedError(
            f"the labels of model {model_directory.name} can not be kept:"
            f" {CONFIG_FILE}: {error.strerror}"
        ) from error


def edit_labels(content: str, change: LabelChange) -> str:
    """Return a ``config.toml`` with one label changed and all else as it is.

    Raises:
        ConfigError: It is wrong, or would be.
    """
    parse_config(content.encode())
    document = tomlkit.parse(content)
    values = {"labels": change.version, "traffic": change.share}
    for table_name, value in values.items():
        if value is not None:
            _table(document, table_name)[change.label] = value
        elif change.version is None and table_name in document:
            table = _table(document, table_name)
            table.pop(change.label, None)
            if not table:
                document.remove(table_name)
    edited = tomlkit.dumps(document)
    parse_config(edited.encode())
    return edited


def _table(document: tomlkit.TOMLDocument, name: str) -> MutableMapping[str, Any]:
    if name not in document:
        document[name] = tomlkit.table()
    return cast("MutableMapping[str, Any]", document[name])


def _stage(path: Path, staged: Path, change: LabelChange) -> None:
    content = path.read_text("utf-8") if path.exists() else ""
    with staged.open("w", encoding="utf-8") as file:
        file.write(edit_labels(content, change))
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        shutil.copymode(path, staged)


@contextmanager
def _locked(directory: Path) -> Generator[None]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # which unlocks it
