"""The GPUs that this service may use, found without CUDA: runners alone load that."""

import re
from collections.abc import Mapping
from pathlib import Path

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_ORDER = "CUDA_DEVICE_ORDER"
_DEVICE_FILE = re.compile(r"nvidia[0-9]+")


def find_gpus(environment: Mapping[str, str], devices: Path = Path("/dev")) -> tuple[str, ...]:
    """Return the names of the GPUs, each as ``CUDA_VISIBLE_DEVICES`` takes it.

    Those that this variable names, where it is set, up to the first that can be none, as CUDA reads
    it; else one for each device file of NVIDIA's driver. Whether CUDA opens them is not known yet.

    Args:
        environment: Variables of this process.
        devices: Where the device files are.
    """
    num_files = _count_files(devices)
    if _VISIBLE not in environment:
        return tuple(map(str, range(num_files)))
    named: list[str] = []
    for part in environment[_VISIBLE].split(","):
        name = part.strip()
        if not _may_be_gpu(name, num_files) or name in named:
            break
        named.append(name)
    return tuple(named)


def show_only(gpu: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which a process sees one GPU alone.

    Where the numbers are ours, they are those of ``nvidia-smi``.
    """
    order = {} if _VISIBLE in environment else {_ORDER: "PCI_BUS_ID"}
    return {**order, _VISIBLE: gpu}


def _count_files(devices: Path) -> int:
    try:
        return sum(_DEVICE_FILE.fullmatch(entry.name) is not None for entry in devices.iterdir())
    except OSError:
        return 0


def _may_be_gpu(name: str, num_files: int) -> bool:
    """Tell whether CUDA may know a GPU of this name: a number below theirs, or the start of a UUID.

    Without device files, as below Windows, there is nothing to compare a number with.
    """
    if name.isdecimal():
        return not num_files or int(name) < num_files
    return name.startswith(("GPU-", "MIG-"))
