"""Where a runner stands among those that the supervisor has started, and which GPU it has."""

from dataclasses import dataclass

from app.runner.engine import Device


@dataclass(frozen=True, slots=True)
class Gpu:
    """One of the GPUs of a service, counted from 0."""

    index: int = 0
    count: int = 1


@dataclass(frozen=True, slots=True)
class Place:
    """The place of one runner.

    Args:
        index: Its number, from 0.
        num_gpus: GPUs that the supervisor has found; this runner sees that of its number alone.
        num_cpu_runners: How many run models where there is no CUDA.
        device: Where this one runs them.
    """

    index: int
    num_gpus: int
    num_cpu_runners: int
    device: Device

    @property
    def num_runners(self) -> int:
        """How many runners serve: on CUDA one for each GPU, which holds each model once."""
        return max(1, self.num_gpus) if self.device == "cuda" else self.num_cpu_runners

    @property
    def is_needed(self) -> bool:
        """Whether this runner is among those that serve."""
        return self.index < self.num_runners

    @property
    def gpu(self) -> Gpu:
        """The GPU of this runner."""
        return Gpu(self.index, self.num_runners)
