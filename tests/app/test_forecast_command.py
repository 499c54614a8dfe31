"""``gatecast forecast`` as a user calls it."""

import csv
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli import gatecast
from tests.bulk_runs import write_monthly

HEADER = "item_id,timestamp,target\n"
GOOD = "".join(f"A,2024-{month:02}-01,{month}\n" for month in range(1, 13))


def call(data: Path, repository: Path, *options: str, output: str = "out.csv") -> Result:
    arguments = [str(data), "--model=tiny", f"--output={data.parent / output}", "--device=cpu"]
    arguments += [f"--repository={repository}", "--workers=1", *options]
    return CliRunner().invoke(gatecast, ["forecast", *arguments])


def write(folder: Path, rows: str) -> Path:
    path = folder / "data.csv"
    path.write_text(HEADER + rows)
    return path


def test_good_series_are_forecast_and_bad_ones_listed(
    tmp_path: Path, tiny_repository: Path
) -> None:
    data = write(tmp_path, GOOD + "B,2024-01-01,\n")
    result = call(data, tiny_repository, "--horizon=2", "--quantile-levels=0.1,0.5")
    header, *rows = csv.reader((tmp_path / "out.csv").read_text().splitlines())
    refusal = json.loads((tmp_path / "out.errors.jsonl").read_text())
    assert result.exit_code == 0
    assert header == ["item_id", "timestamp", "0.1", "0.5"]
    assert [row[:2] for row in rows] == [["A", "2025-01-01"], ["A", "2025-02-01"]]
    assert refusal["item_id"] == "B"
    assert "1 series forecast, 1 refused" in result.stderr
    assert not (tmp_path / "out.csv.partial").exists()


def test_quiet_says_nothing(tmp_path: Path, tiny_repository: Path) -> None:
    result = call(write(tmp_path, GOOD), tiny_repository, "--quiet")
    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.parametrize(
    ("options", "output", "message"),
    [
        (("--quantile-levels=0.1;0.9",), "out.csv", "must be numbers between commas"),
        ((), "out.xlsx", "must end in one of .parquet"),
        ((), "data.csv", "would take the place of the data"),
        (("--model=none",), "out.csv", "holds no model none"),
        (("--url=gopher://example",), "out.csv", "is no http:// or https:// address"),
    ],
    ids=["levels", "suffix", "data", "model", "url"],
)
def test_wrong_option_is_one_line(
    tmp_path: Path, tiny_repository: Path, options: tuple[str, ...], output: str, message: str
) -> None:
    result = call(write(tmp_path, GOOD), tiny_repository, *options, output=output)
    assert message in str(result.exception)


def test_missing_file_is_a_usage_error(tmp_path: Path, tiny_repository: Path) -> None:
    result = call(tmp_path / "none.csv", tiny_repository)
    assert result.exit_code == 2
    assert "does not exist" in result.output


def test_killed_command_leaves_no_process_and_goes_on(
    tmp_path: Path, tiny_repository: Path
) -> None:
    data = write_monthly(tmp_path / "data.parquet", 1200)
    command = [sys.executable, "-m", "app", "forecast", str(data), "--model=tiny"]
    command += [f"--output={tmp_path / 'out.csv'}", f"--repository={tiny_repository}"]
    command += ["--device=cpu", "--workers=1"]
    journal = tmp_path / "out.csv.partial"
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:  # noqa: S603 - our own command
        wait_until(lambda: journal.exists() or process.poll() is not None)
        workers = children_of(process.pid)
        process.kill()
    wait_until(lambda: not any(map(is_running, workers)))
    result = call(data, tiny_repository)
    assert result.exit_code == 0
    assert "1,200 series forecast" in result.stderr


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def children_of(pid: int) -> list[int]:
    try:
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except OSError:
        return []


def is_running(pid: int) -> bool:
    """Whether a process is there; one that only waits for its status to be read is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
