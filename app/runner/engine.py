"""Runs one model: the one-method Engine, and its implementation over ONNX Runtime."""

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import numpy as np
import onnxruntime as ort

from app.artifact import (
    MODEL_FILE,
    Card,
    GoldenCase,
    check_seal,
    load_card,
    load_golden_case,
)
from app.errors import ArtifactError, EngineError, ModelOutputError
from app.tensors import Tensors

if TYPE_CHECKING:
    from numpy.typing import NDArray

Device = Literal["cpu", "cuda"]

_CUDA_PROVIDER = "CUDAExecutionProvider"
_CPU_PROVIDER = "CPUExecutionProvider"
_FATAL = 4


class Engine(Protocol):
    """Runs a batch."""

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        """Run ``inputs``, batch on axis 0, and return the named outputs.

        Raises:
            EngineError: The run failed or gave numbers that are not finite.
        """
        ...


class OrtEngine:
    """One ONNX Runtime session over a sealed artifact."""

    def __init__(self, session: ort.InferenceSession, digest: str) -> None:
        metadata = session.get_modelmeta().custom_metadata_map
        self.card: Card = load_card(metadata)
        self.golden_case: GoldenCase = load_golden_case(metadata)
        self.digest = digest
        self.providers: list[str] = list(session.get_providers())
        self._session = session

    @classmethod
    def from_bytes(
        cls, model: bytes, device: Device, *, gpu_mem_limit_bytes: int = 0
    ) -> "OrtEngine":
        """Open an artifact.

        Models come as bytes: ONNX Runtime then refuses every reference to a file beside it.

        Raises:
            ArtifactError: The bytes are not a sound artifact, or CUDA was asked for and did not
            come up.
        """
        digest = check_seal(model)
        try:
            session = ort.InferenceSession(
                model, _session_options(), providers=_providers(device, gpu_mem_limit_bytes)
            )
            engine = cls(session, digest)
        except ArtifactError:
            raise
        except Exception as error:  # ONNX Runtime's exceptions share no base
            raise ArtifactError(f"ONNX Runtime refuses the model: {_first_line(error)}") from error
        if device == "cuda" and _CUDA_PROVIDER not in engine.providers:
            raise ArtifactError("CUDA was asked for, but ONNX Runtime fell back to the CPU")
        return engine

    @classmethod
    def from_file(cls, path: Path, device: Device, *, gpu_mem_limit_bytes: int = 0) -> "OrtEngine":
        """Open the artifact at ``path``, a file or the version directory that holds it."""
        file = path / MODEL_FILE if path.is_dir() else path
        try:
            model = file.read_bytes()
        except OSError as error:
            raise ArtifactError(f"can not read {file.name}: {error.strerror}") from error
        return cls.from_bytes(model, device, gpu_mem_limit_bytes=gpu_mem_limit_bytes)

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        """Run a batch; states that ``inputs`` lack begin anew.

        Raises:
            EngineError: There are no rows or no steps (ONNX Runtime aborts the process on those),
            or the run failed.
            ModelOutputError: A quantile is not finite.
        """
        for name, array in inputs.items():
            if not array.size:
                raise EngineError(f"refusing to run an empty batch: {name} has shape {array.shape}")
        batch = len(next(iter(inputs.values())))
        states = {s.name: s.initial_tensor(batch) for s in self.card.states if s.name not in inputs}
        try:
            ran = self._session.run(list(outputs), inputs | states)
        except Exception as error:  # ONNX Runtime's exceptions share no base
            raise EngineError(f"model run failed: {_first_line(error)}") from error
        results = dict(zip(outputs, cast("list[NDArray[Any]]", ran), strict=True))
        if "quantiles" in results and not np.isfinite(results["quantiles"]).all():
            raise ModelOutputError("the model gave numbers that are not finite")
        return results

    def check_golden_case(self) -> None:
        """Replay the golden case on this device.

        Raises:
            ArtifactError: The numbers differ from the recorded ones.
        """
        names = [value.name for value in self.golden_case.outputs]
        try:
            outputs = self.run(self.golden_case.input_tensors(), names)
        except EngineError as error:
            raise ArtifactError(f"golden case: {error}") from error
        self.golden_case.check(outputs)


def cuda_is_usable() -> bool:
    """Tell whether ONNX Runtime really opens sessions on CUDA here.

    The list of available providers names CUDA even on a machine without it, so a session is asked.
    """
    if _CUDA_PROVIDER not in ort.get_available_providers():
        return False
    preload_cuda_libraries()
    ort.set_default_logger_severity(_FATAL)  # a missing library is an answer here, not an error
    session = ort.InferenceSession(
        _IDENTITY_MODEL, _session_options(), providers=[_CUDA_PROVIDER, _CPU_PROVIDER]
    )
    return _CUDA_PROVIDER in session.get_providers()


def preload_cuda_libraries() -> None:
    """Load the CUDA and cuDNN libraries of the ``gpu`` extra, where they are installed."""
    if hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what is missing
            ort.preload_dlls()


def _session_options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    return options


def _providers(device: Device, gpu_mem_limit_bytes: int) -> list[Any]:
    if device == "cpu":
        return [_CPU_PROVIDER]
    options = {"use_tf32": "0", "arena_extend_strategy": "kSameAsRequested"}
    if gpu_mem_limit_bytes:
        options["gpu_mem_limit"] = str(gpu_mem_limit_bytes)
    return [(_CUDA_PROVIDER, options), _CPU_PROVIDER]


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


# Identity of one float, ONNX opset 13: ModelProto{ir_version 8, graph{node Identity x->y, input
# x[1], output y[1]}}.
_IDENTITY_MODEL = bytes.fromhex(
    "08083a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a020801620f0a"
    "0179120a0a08080112040a02080142040a00100d"
)
