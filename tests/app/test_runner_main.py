"""Which device a runner takes."""

import pytest

from app.errors import StartupError
from app.runner.engine import Device
from app.runner.main import choose_device
from app.runner.place import Gpu, Place


def test_cpu_is_taken_without_a_look_at_cuda() -> None:
    def must_not_be_asked() -> bool:
        raise AssertionError

    assert choose_device("cpu", must_not_be_asked) == ("cpu", "")


def test_auto_takes_cuda_and_says_so() -> None:
    assert choose_device("auto", lambda: True) == ("cuda", "CUDA was found")


def test_auto_falls_back_to_the_cpu_and_says_so() -> None:
    assert choose_device("auto", lambda: False) == ("cpu", "CUDA was not found")


def test_cuda_without_cuda_does_not_start() -> None:
    with pytest.raises(StartupError, match="device cuda"):
        choose_device("cuda", lambda: False)


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
