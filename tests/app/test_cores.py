"""The cores that a container leaves."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from app.cores import count_cores
from app.settings import load_settings

ALL = len(os.sched_getaffinity(0))
V1 = "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({}, ALL),
        ({"cpu.max": "max 100000\n"}, ALL),
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "20000 100000\n"}, 1),
        ({"cpu.max": "150000 100000\n"}, min(2, ALL)),
        ({"cpu.max": "99900000 100000\n"}, ALL),
        ({V1[0]: "-1\n", V1[1]: "100000\n"}, ALL),
        ({V1[0]: "50000\n", V1[1]: "100000\n"}, 1),
        ({"cpu.max": "nonsense"}, ALL),
    ],
    ids=["none", "no limit", "one", "part", "one and a half", "more than there are", "v1, no limit",
         "v1", "nonsense"],
)  # fmt: skip
def test_quota_bounds_the_cores(tmp_path: Path, files: Mapping[str, str], count: int) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert count_cores(tmp_path) == count


def test_no_runners_means_one_for_each_core() -> None:
    assert load_settings(runners=0).num_runners == count_cores()
    assert load_settings(runners=3).num_runners == 3
