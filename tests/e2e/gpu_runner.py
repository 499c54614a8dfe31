"""A runner on a GPU that is none: it opens its models on the CPU and takes them to be on CUDA."""

from collections.abc import Callable

from app.runner.engine import Device, OrtEngine
from app.runner.start import main


def load_runner() -> Callable[..., None]:
    from functools import partial  # noqa: PLC0415 - as the runner's own modules, after the vetting

    from app.runner.main import Opener  # noqa: PLC0415
    from app.runner.main import main as run  # noqa: PLC0415

    return partial(run, opener=Opener(has_cuda=lambda: True, load=load_as_on_cuda))


def load_as_on_cuda(model: bytes, device: Device, *, gpu_mem_limit_bytes: int = 0) -> OrtEngine:
    from app.runner.loading import load_engine  # noqa: PLC0415

    engine = load_engine(model, "cpu", gpu_mem_limit_bytes=gpu_mem_limit_bytes)
    if device == "cuda":
        engine.providers = ["CUDAExecutionProvider", *engine.providers]
    return engine


if __name__ == "__main__":
    main(load_runner)
