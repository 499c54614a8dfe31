import subprocess
import sys

import pytest

_SCRIPT = """
import os
from pathlib import Path
from app.niceness import give_way

before = os.nice(0)
give_way(5)
group = Path("/proc/self/autogroup")
print(os.nice(0) - before, group.read_text().split()[-1] if group.exists() else 5)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="sessions share the processor on Linux only")
def test_process_and_its_session_give_way() -> None:
    told = subprocess.run(  # noqa: S603
        [sys.executable, "-c", _SCRIPT],
        start_new_session=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == ["5", "5"]
