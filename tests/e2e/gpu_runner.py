"""A runner on a GPU that is none: it opens its models on the CPU and takes them to be on CUDA."""

import os
from collections.abc import Callable
from pathlib import Path

from app.runner.engine import Device, OrtEngine
from app.runner.start import main

NO_CUDA_FILE = ".no-cuda"
"""While it lies in the model repository, CUDA does not open."""


def load_runner() -> Callable[..., None]:
    from functools import partial  # noqa: PLC0415 - as the runner's own modules, after the vetting

    from app.runner.main import Opener  # noqa: PLC0415
    from app.runner.main import main as run  # noqa: PLC0415

    return partial(run, opener=Opener(has_cuda=has_cuda, load=load_as_on_cuda))


def has_cuda() -> bool:
    return not Path(os.environ["GATECAST_MODEL_REPOSITORY"], NO_CUDA_FILE).exists()


def load_as_on_cuda(model: bytes, device: Device, **_options: object) -> OrtEngine:
    from app.runner.binding import Bindings  # noqa: PLC0415
    from app.runner.loading import load_engine  # noqa: PLC0415

    engine = load_engine(model, "cpu")
    if device == "cuda":
        engine.bind(Bindings(engine.session))
        engine.providers = ["CUDAExecutionProvider", *engine.providers]
    return engine


if __name__ == "__main__":
    main(load_runner)
