"""pyarrow is loaded when a file needs it, and not before."""

import subprocess
import sys

import pytest

LOADED = "import sys; print('pyarrow' in sys.modules)"


@pytest.mark.parametrize(
    ("use", "is_loaded"),
    [("", False), ("from app.files.cells import pa; pa.array([1]); ", True)],
    ids=["started", "read a file"],
)
def test_gateway_loads_pyarrow_with_the_first_file(use: str, is_loaded: bool) -> None:
    code = f"import app.gateway.server; {use}{LOADED}"
    command = [sys.executable, "-c", code]
    told = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    assert told.stdout.strip() == str(is_loaded)
