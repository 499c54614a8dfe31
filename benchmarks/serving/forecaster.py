"""The forecaster that is measured: as large as the plain LSTM of 128 units, two layers of them.

It is made by ``benchmarks.serving.making`` in a process of its own, once, and again when the code
that makes it has changed.
"""

import hashlib
import subprocess
import sys
from functools import cache
from pathlib import Path

from app.artifact.directory import MODEL_FILE
from benchmarks.serving.servers import CACHE, ROOT

NAME = "forecaster"
HIDDEN_SIZE = 128
NUM_LAYERS = 2
CONTEXT_LENGTH = 640

_MAKER = "benchmarks.serving.making"
_SOURCES = (
    ROOT / "models",
    ROOT / "export",
    ROOT / "app" / "artifact",
    Path(__file__),
    Path(__file__).with_name("making.py"),
)


@cache
def forecaster_file() -> Path:
    """Return its file in a model repository of its own, where it is called ``forecaster``."""
    repository = CACHE / f"forecaster-{_digest()}"
    file = repository / NAME / "1" / MODEL_FILE
    if not file.exists():
        print("training and exporting the forecaster, once", flush=True)
        command = [sys.executable, "-m", _MAKER, str(repository)]
        subprocess.run(command, check=True, cwd=ROOT)  # noqa: S603 - our own command
    return file


def _digest() -> str:
    """Return what changes with the code that makes the file."""
    digest = hashlib.sha256()
    for source in _SOURCES:
        for file in sorted(source.rglob("*.py")) if source.is_dir() else [source]:
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
