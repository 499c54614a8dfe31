"""What a GPU is and how much of its memory is used."""

import shutil
import subprocess

import numpy as np
import onnxruntime as ort

from app.runner.engine import Device
from app.tensors import Tensors


def describe_device(device: Device) -> dict[str, str]:
    """Return the GPUs, their driver, and the provider's own version."""
    described = {"device": device, "onnxruntime": ort.__version__}
    if device == "cuda":
        fields = "name,driver_version,memory.total,clocks.max.sm,mig.mode.current"
        described |= {"gpus": "; ".join(_query(fields))}
    return described


def used_memory_mib(device: Device) -> float:
    """Return what is used of the first GPU by all processes; 0 where there is none."""
    used = _query("memory.used") if device == "cuda" else []
    return float(used[0]) if used else 0.0


def _query(fields: str) -> list[str]:
    if not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)  # noqa: S603
    return ran.stdout.splitlines()


def make_inputs(rows: int, length: int, *, is_ragged: bool = False, seed: int = 0) -> Tensors:
    """Return inputs of the plain models of ``benchmarks.serving.models``."""
    random = np.random.default_rng(seed)
    lengths = np.full(rows, length, np.int32)
    if is_ragged:
        lengths = random.integers(1, length, rows, endpoint=True).astype(np.int32)
        lengths[0] = length
    history = random.normal(size=(rows, length, 1)).astype(np.float32)
    return {"history": history, "sequence_lens": lengths}
