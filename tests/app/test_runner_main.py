"""Which device a runner takes."""

import pytest

from app.errors import StartupError
from app.runner.main import choose_device


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
