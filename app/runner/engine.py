"""Runs one model: the one-method Engine, and its implementation over ONNX Runtime."""

import contextlib
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from app.artifact.card import Card
from app.artifact.directory import MODEL_FILE
from app.artifact.golden_case import GoldenCase
from app.artifact.metadata import AnyCard, load_card, load_golden_case
from app.artifact.seal import check_seal, is_plain_model
from app.artifact.sequence_card import SequenceCard
from app.artifact.specs import TensorSpec
from app.errors import (
    ArtifactError,
    DeviceLostError,
    EngineError,
    ModelOutputError,
    OutOfMemoryError,
)
from app.interface import Interface
from app.runner.binding import Bindings
from app.tensors import Datatype, Tensors

Device = Literal["cpu", "cuda"]

_CUDA_PROVIDER = "CUDAExecutionProvider"
_CPU_PROVIDER = "CPUExecutionProvider"
_ANSWERS = frozenset({"quantiles", "probabilities", "values"})
"""Outputs of artifacts that are answers; the states beside them may hold NaN."""
_FATAL = 4
_MAX_LENGTH = 200
# An error begins with its number and the places in ONNX Runtime's source; the reason comes last.
_ORT_PREFIXES = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |Non-zero status code returned |/onnxruntime_src/\S+ "
)
_NO_MEMORY = re.compile(
    r"Failed to allocate memory|is smaller than requested bytes|std::bad_alloc|CUDA failure 2:"
    r"|(?:CUBLAS|CUDNN)_STATUS_(?:\w+_)?ALLOC(?:ATION)?_FAILED"
)
"""The second is what the arena says at ``gpu_mem_limit``; statuses are those of cuDNN 9."""
_LOST = re.compile(r"CUDA failure (?:214|700|702|709|710|714|715|716|717|718|719|999):")
"""ECC error, illegal address, launch timeout, destroyed context, assertion, faults of kernels:
after these every call fails until the process ends. CUDA Runtime API, ``cudaError``."""
_DATATYPES: Mapping[str, Datatype] = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}


class Engine(Protocol):
    """Runs batches of one model, whose ``interface`` says how rows are joined and told apart."""

    interface: Interface

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        """Run ``inputs`` and return the named outputs.

        Raises:
            EngineError: The run failed or gave numbers that are not finite.
        """
        ...


class OrtEngine:
    """One ONNX Runtime session over a model file.

    A sealed artifact holds a card and a golden case. A file that never mentions gatecast holds
    neither, and is served as tensors; what it takes and gives is found by ``app.runner.trial``.
    A file that mentions gatecast anywhere must be a sound artifact: damage never turns a forecaster
    into a plain model.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        digest: str,
        interface: Interface,
        *,
        card: AnyCard | None = None,
        golden_case: GoldenCase | None = None,
    ) -> None:
        self.digest = digest
        self.file_digest = digest
        """SHA-256 of the whole file; ``digest`` of an artifact leaves its own place in it out."""
        self.interface = interface
        self.providers: list[str] = list(session.get_providers())
        self._session = session
        self._bindings: Bindings | None = None
        self._card = card
        self._golden_case = golden_case
        self._answers = _ANSWERS if card is not None else frozenset[str]()

    @classmethod
    def from_bytes(
        cls,
        model: bytes,
        device: Device,
        *,
        gpu_mem_limit_bytes: int = 0,
        has_bindings: bool = False,
    ) -> "OrtEngine":
        """Open a model.

        Models come as bytes: ONNX Runtime then refuses every reference to a file beside it.

        Args:
            model: The bytes of its file.
            device: Where it runs.
            gpu_mem_limit_bytes: Most memory of ONNX Runtime's arena on the GPU; 0 sets no limit.
            has_bindings: Whether it runs on CUDA through I/O bindings.

        Raises:
            ArtifactError: The bytes are no sound model, or CUDA was asked for and did not come up.
        """
        is_plain = is_plain_model(model)
        digest = hashlib.sha256(model).hexdigest() if is_plain else check_seal(model)
        try:
            session = ort.InferenceSession(
                model, _session_options(), providers=_providers(device, gpu_mem_limit_bytes)
            )
            if is_plain:
                engine = cls(session, digest, _declared_interface(session))
            else:
                engine = cls._from_artifact(session, digest)
        except ArtifactError:
            raise
        except Exception as error:  # ONNX Runtime's exceptions share no base
            raise ArtifactError(f"ONNX Runtime refuses the model: {_first_line(error)}") from error
        engine.file_digest = hashlib.sha256(model).hexdigest()
        if device == "cuda" and _CUDA_PROVIDER not in engine.providers:
            raise ArtifactError("CUDA was asked for, but ONNX Runtime fell back to the CPU")
        if device == "cuda" and has_bindings:
            engine.bind(Bindings(session))
        return engine

    @classmethod
    def _from_artifact(cls, session: ort.InferenceSession, digest: str) -> "OrtEngine":
        metadata = session.get_modelmeta().custom_metadata_map
        card, golden_case = load_card(metadata), load_golden_case(metadata)
        interface = Interface.from_card(card)
        return cls(session, digest, interface, card=card, golden_case=golden_case)

    @classmethod
    def from_file(cls, path: Path, device: Device, *, gpu_mem_limit_bytes: int = 0) -> "OrtEngine":
        """Open the model at ``path``, a file or the version directory that holds it."""
        file = path / MODEL_FILE if path.is_dir() else path
        try:
            model = file.read_bytes()
        except OSError as error:
            raise ArtifactError(f"can not read {file.name}: {error.strerror}") from error
        return cls.from_bytes(model, device, gpu_mem_limit_bytes=gpu_mem_limit_bytes)

    def bind(self, bindings: Bindings) -> None:
        """Run through ``bindings`` of this session from now on, where the model allows it."""
        self._bindings = bindings

    @property
    def session(self) -> ort.InferenceSession:
        """What runs the graph."""
        return self._session

    @property
    def device(self) -> Device:
        """Where it runs."""
        return "cuda" if _CUDA_PROVIDER in self.providers else "cpu"

    @property
    def any_card(self) -> AnyCard | None:
        """The card of an artifact, whatever its task; a plain model has none."""
        return self._card

    @property
    def card(self) -> Card:
        """The card of a forecaster.

        Raises:
            ArtifactError: It is none.
        """
        if not isinstance(self._card, Card):
            raise ArtifactError(f"the model is no forecaster: {_describe(self._card)}")
        return self._card

    @property
    def sequence_card(self) -> SequenceCard:
        """The card of a model that classifies, regresses or tags.

        Raises:
            ArtifactError: It does nothing of that.
        """
        if not isinstance(self._card, SequenceCard):
            raise ArtifactError(f"the model reads no sequences: {_describe(self._card)}")
        return self._card

    @property
    def golden_case(self) -> GoldenCase:
        """The golden case of an artifact.

        Raises:
            ArtifactError: It is none.
        """
        if self._golden_case is None:
            raise ArtifactError("the model has no golden case: it is served as tensors")
        return self._golden_case

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        """Run a batch; states that ``inputs`` lack begin anew.

        Raises:
            EngineError: There are no rows or no steps (ONNX Runtime aborts the process on those),
            or the run failed.
            OutOfMemoryError: There is not enough memory for so many rows.
            DeviceLostError: This process can run nothing any more.
            ModelOutputError: A number that an artifact answers with is not finite.
        """
        for name, array in inputs.items():
            if not array.size:
                raise EngineError(f"refusing to run an empty batch: {name} has shape {array.shape}")
        feeds = inputs
        if not inputs.keys() >= self.interface.state_names:
            feeds = self.interface.initial_states(self.interface.rows_of(inputs)) | inputs
        try:
            ran = self._run_session(feeds, outputs)
        except Exception as error:  # ONNX Runtime's exceptions share no base
            raise _run_error(error) from error
        results = dict(zip(outputs, ran, strict=True))
        for name in self._answers & results.keys():
            if not np.isfinite(results[name]).all():
                raise ModelOutputError("the model gave numbers that are not finite")
        return results

    def _run_session(self, feeds: Tensors, outputs: Sequence[str]) -> list[NDArray[Any]]:
        if self._bindings is not None and Bindings.fit(self.interface):
            return self._bindings.run(feeds, outputs, self.interface)
        return cast("list[NDArray[Any]]", self._session.run(list(outputs), feeds))

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


def _declared_interface(session: ort.InferenceSession) -> Interface:
    """Read what a plain model says of itself; nothing is known yet of batch and time."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if not inputs or not outputs:
        raise ArtifactError("a model needs inputs and outputs")
    return Interface(
        inputs=tuple(_declared_spec(node) for node in inputs),
        outputs=tuple(_declared_spec(node) for node in outputs),
    )


def _declared_spec(node: ort.NodeArg) -> TensorSpec:
    if node.type not in _DATATYPES:
        raise ArtifactError(f"tensor {node.name[:64]} is of type {node.type}, which is not served")
    return TensorSpec(
        name=node.name,
        datatype=_DATATYPES[node.type],
        shape=tuple(
            size if isinstance(size, int) else size or f"{node.name}.{axis}"
            for axis, size in enumerate(node.shape)
        ),
    )


def _describe(card: AnyCard | None) -> str:
    return "it has no card and is served as tensors" if card is None else f"its task is {card.task}"


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
    # Else bytes that begin like a file of another format are read as that, whatever else they are.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return options


def _providers(device: Device, gpu_mem_limit_bytes: int) -> list[Any]:
    if device == "cpu":
        return [_CPU_PROVIDER]
    options = {"use_tf32": "0", "arena_extend_strategy": "kSameAsRequested"}
    if gpu_mem_limit_bytes:
        options["gpu_mem_limit"] = str(gpu_mem_limit_bytes)
    return [(_CUDA_PROVIDER, options), _CPU_PROVIDER]


def _run_error(error: Exception) -> EngineError:
    text = str(error)
    kind = OutOfMemoryError if _NO_MEMORY.search(text) else EngineError
    if _LOST.search(text):
        kind = DeviceLostError
    return kind(f"model run failed: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    text = (_ORT_PREFIXES.sub("", str(error)).strip() or type(error).__name__).splitlines()[0]
    return text if len(text) <= _MAX_LENGTH else f"...{text[-_MAX_LENGTH:]}"


# Identity of one float, ONNX opset 13: ModelProto{ir_version 8, graph{node Identity x->y, input
# x[1], output y[1]}}.
_IDENTITY_MODEL = bytes.fromhex(
    "08083a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a020801620f0a"
    "0179120a0a08080112040a02080142040a00100d"
)
