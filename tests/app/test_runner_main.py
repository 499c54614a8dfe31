"""Which device a runner takes."""

from pathlib import Path

import pytest

from app.errors import StartupError
from app.runner.engine import Device
from app.runner.main import choose_device, recall_device
from app.runner.place import Gpu, Place


def must_not_be_asked() -> bool:
    raise AssertionError


def test_cpu_is_taken_without_a_look_at_cuda() -> None:
    assert choose_device("cpu", must_not_be_asked) == ("cpu", "")


def test_auto_takes_cuda_and_says_so() -> None:
    assert choose_device("auto", lambda: True) == ("cuda", "CUDA was found")


def test_auto_falls_back_to_the_cpu_and_says_so() -> None:
    assert choose_device("auto", lambda: False) == ("cpu", "CUDA was not found")


def test_cuda_without_cuda_does_not_start() -> None:
    with pytest.raises(StartupError, match="device cuda"):
        choose_device("cuda", lambda: False)


def test_runner_that_had_cuda_comes_back_with_it_alone(tmp_path: Path) -> None:
    memory = tmp_path / "runner-0.device"
    assert recall_device(memory, "auto", lambda: True)[0] == "cuda"
    with pytest.raises(StartupError, match="device cuda"):
        recall_device(memory, "auto", lambda: False)
    assert recall_device(memory, "auto", lambda: True)[0] == "cuda"


def test_runner_that_had_the_cpu_comes_back_on_it(tmp_path: Path) -> None:
    memory = tmp_path / "runner-0.device"
    assert recall_device(memory, "auto", lambda: False)[0] == "cpu"
    assert recall_device(memory, "auto", must_not_be_asked)[0] == "cpu"


def test_device_that_can_not_be_written_down_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert recall_device(tmp_path / "away" / "device", "cpu", must_not_be_asked) == ("cpu", "")
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("index", "num_gpus", "device", "is_needed"),
    [
        (0, 0, "cuda", True),
        (1, 0, "cuda", False),
        (1, 2, "cuda", True),
        (2, 2, "cuda", False),
        (2, 4, "cpu", True),
        (3, 4, "cpu", False),
    ],
)
def test_cuda_needs_a_runner_for_each_gpu_and_the_cpu_as_many_as_were_asked_for(
    index: int, num_gpus: int, device: Device, is_needed: bool
) -> None:
    assert Place(index, num_gpus, 3, device).is_needed == is_needed


def test_gpu_is_counted_among_those_of_the_service() -> None:
    assert Place(1, 2, 3, "cuda").gpu == Gpu(1, 2)
