"""Which GPUs are found without asking CUDA."""

from pathlib import Path

import pytest

from app.gpus import find_gpus, show_only


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    for name in ("nvidia0", "nvidia3", "nvidia10", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    (tmp_path / "nvidia-caps").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [
        ("2", ("2",)),
        ("1, 0", ("1", "0")),
        ("0,3,1", ("0",)),
        ("0,-1,1", ("0",)),
        ("0,0", ("0",)),
        ("GPU-8932f937,MIG-7f2a", ("GPU-8932f937", "MIG-7f2a")),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
    ],
    ids=["one", "order", "too many", "end", "twice", "uuids", "empty", "none", "word"],
)
def test_variable_wins_and_ends_where_cuda_ends(
    devices: Path, visible: str, gpus: tuple[str, ...]
) -> None:
    assert find_gpus({"CUDA_VISIBLE_DEVICES": visible}, devices) == gpus


def test_device_files_count_without_the_variable(devices: Path) -> None:
    assert find_gpus({}, devices) == ("0", "1", "2")


def test_machine_without_a_driver_has_none(tmp_path: Path) -> None:
    assert find_gpus({}, tmp_path) == find_gpus({}, tmp_path / "none") == ()


def test_process_sees_one_gpu_by_the_number_of_the_driver() -> None:
    assert show_only("1", {}) == {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def test_numbers_of_the_operator_keep_their_meaning() -> None:
    assert show_only("1", {"CUDA_VISIBLE_DEVICES": "0,1"}) == {"CUDA_VISIBLE_DEVICES": "1"}
