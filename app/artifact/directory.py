"""Where artifacts lie: ``<model_repository>/<model_name>/<model_version>/model.onnx``."""

import re
from pathlib import Path

MODEL_FILE = "model.onnx"
MODEL_NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


def find_versions(model_directory: Path) -> list[int]:
    """List the version numbers in ``<model_repository>/<model_name>``, oldest first.

    Only directories named by a positive integer that hold a model file count.
    """
    if not model_directory.is_dir():
        return []
    return sorted(
        int(entry.name)
        for entry in model_directory.iterdir()
        if re.fullmatch(r"[1-9][0-9]{0,17}", entry.name) and (entry / MODEL_FILE).is_file()
    )
