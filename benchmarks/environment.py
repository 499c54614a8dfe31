"""Where a figure was measured: hardware, versions and the command."""

import os
import platform
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("fastapi", "numpy", "onnxruntime-gpu", "torch", "uvicorn")


def describe_environment(more_packages: tuple[str, ...] = ()) -> dict[str, str]:
    """Return what a reader must know to judge a figure.

    Args:
        more_packages: Packages whose versions matter beside those of the product.
    """
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        **{name: _version(name) for name in (*_PACKAGES, *more_packages)},
        "command": shlex.join(["python", "-m", *_module_and_arguments()]),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed as a package"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _module_and_arguments() -> list[str]:
    spec = sys.modules["__main__"].__spec__
    return [spec.name.removesuffix(".__main__") if spec else Path(sys.argv[0]).stem, *sys.argv[1:]]
