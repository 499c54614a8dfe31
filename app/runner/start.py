"""The first thing a runner process runs: while it loads its modules, so does what tries models."""

import argparse
from collections.abc import Callable
from pathlib import Path

from app.runner.vetting_process import VettingProcess


def main(load_runner: Callable[[], Callable[..., None]] | None = None) -> None:
    """Start what tries model files, then the runner.

    A runner that takes a lost one's place tries no files, as a rule, and so starts nothing.

    Args:
        load_runner: Imports and returns ``main`` of the runner.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--lifeline", type=int, required=True)
    parser.add_argument("--index", type=int, required=True)
    parser.add_argument("--gpus", type=int, default=0)
    parser.add_argument("--restarts", type=int, required=True)
    arguments = parser.parse_args()
    process = None if arguments.restarts else VettingProcess()
    try:
        run = (load_runner or _load_runner)()
        run(arguments, process)
    finally:
        if process is not None:
            process.end()


def _load_runner() -> Callable[..., None]:
    from app.runner.main import main as run  # noqa: PLC0415 - a second of work, done beside it

    return run


if __name__ == "__main__":
    main()
