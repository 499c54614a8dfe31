"""Frames between a gateway and a runner: four bytes of length, then one message in MessagePack.

Both ends come from the same installation and are started by the same supervisor, so the format
carries no version. Tensor data stay raw little-endian bytes and are decoded without a copy.
"""

import asyncio
import struct
from typing import Any, Literal, cast

import msgspec
import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from app.statistics import VersionStatistics
from app.tensors import (
    DATATYPES,
    NUMPY_DTYPES,
    Datatype,
    Tensors,
    tensor_bytes,
    unpack_texts,
)

_LENGTH = struct.Struct("<I")
MAX_FRAME_BYTES = 2**30
BACKGROUND_PRIORITY = -1
"""Of requests that run only while no other one waits, and alone: what comes out of them depends on
nothing else, to the last bit."""


class Tensor(msgspec.Struct, array_like=True, frozen=True):
    """One named array."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    data: memoryview


class SequencePart(msgspec.Struct, array_like=True, frozen=True):
    """Where a request stands in a sequence, whose state its runner keeps.

    Attributes:
        id: As the caller names it; 5 and "5" are two sequences.
        is_start: Whether the state begins anew.
        is_end: Whether the state is forgotten after the answer.
        owner: Id of the caller's key, so that no key reaches the sequences of another.
        model_name: Of the model that carries the state.
    """

    id: int | str
    is_start: bool
    is_end: bool
    owner: str
    model_name: str


class InferRequest(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """Gateway to runner: run these rows.

    Attributes:
        deadline: In seconds of the monotonic clock.
        owner: Id of the caller's key, where states of the histories may be kept for it and used;
            None where not.
        flow: Whose turn it is to be run: the caller, and apart from it its large requests.
        is_begun: Whether it is a part of a request of which another part was sent before.
    """

    id: int
    model_name: str
    model_version: int
    deadline: float
    inputs: list[Tensor]
    outputs: list[str]
    priority: int = 0
    sequence: SequencePart | None = None
    owner: str | None = None
    flow: str = ""
    is_begun: bool = False


class CancelRequest(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """Gateway to runner: the caller of request ``id`` has left."""

    id: int


class InferResult(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """Runner to gateway: the rows that request ``id`` asked for."""

    id: int
    outputs: list[Tensor]


class InferFailure(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """Runner to gateway: why request ``id`` has no rows; ``error`` names an exception class.

    Attributes:
        pause_s: For so long, other requests of the same flow would be refused as well.
    """

    id: int
    error: str
    message: str
    retry_after_s: int
    pause_s: float = 0.0


class ServedModel(msgspec.Struct, array_like=True, frozen=True):
    """One version of one model.

    Attributes:
        reason: Why it is not ready; empty where it is.
        interface: Its ``Interface`` in JSON, empty where it is not ready.
        card: Its card in JSON, empty where it has none.
        digest: SHA-256 of its file, empty where it is not ready.
        config: The ``ModelConfig`` of the model in JSON.
        config_refusal: Why the config that lies beside it now does not count; empty where it does.
    """

    model_name: str
    model_version: int
    reason: str
    interface: str
    card: str
    digest: str = ""
    config: str = "{}"
    config_refusal: str = ""


class RunnerStatus(msgspec.Struct, array_like=True, frozen=True, tag=5):
    """Runner to gateway: who it is and what it serves; the first message, and after changes.

    ``num_runners`` is how many runners serve, the first ones of all places; 0 stands for all.
    """

    device: str
    providers: list[str]
    models: list[ServedModel]
    num_runners: int = 0


class Heartbeat(msgspec.Struct, array_like=True, frozen=True, tag=6):
    """Runner to gateway: still turning.

    Attributes:
        batch_sizes: Most rows of the next run of each version, by its model's name and its number.
    """

    batch_sizes: list[tuple[str, int, int]] = []


class StatisticsRequest(msgspec.Struct, array_like=True, frozen=True, tag=7):
    """Gateway to runner: what have your models done?"""

    id: int


class StatisticsReply(msgspec.Struct, array_like=True, frozen=True, tag=8):
    """Runner to gateway: what the models that it serves have done."""

    id: int
    models: list[VersionStatistics]


class ChangeRequest(msgspec.Struct, array_like=True, frozen=True, tag=9):
    """Gateway to runner: load the newest version of a model, or unload it."""

    id: int
    action: Literal["load", "unload"]
    model_name: str


class LabelRequest(msgspec.Struct, array_like=True, frozen=True, tag=11):
    """Gateway to runner: change a label, as ``LabelChange`` says."""

    id: int
    model_name: str
    label: str
    version: int | None
    share: float | None


class ChangeReply(msgspec.Struct, array_like=True, frozen=True, tag=10):
    """Runner to gateway: done; a failure is an ``InferFailure``."""

    id: int


ToRunner = InferRequest | CancelRequest | StatisticsRequest | ChangeRequest | LabelRequest
ToGateway = InferResult | InferFailure | RunnerStatus | Heartbeat | StatisticsReply | ChangeReply

_encoder = msgspec.msgpack.Encoder()


def encode(message: ToRunner | ToGateway) -> bytearray:
    """Return the frame of ``message``."""
    frame = bytearray(_LENGTH.size)
    _encoder.encode_into(message, frame, _LENGTH.size)
    _LENGTH.pack_into(frame, 0, len(frame) - _LENGTH.size)
    return frame


def pack_tensors(tensors: Tensors) -> list[Tensor]:
    """Describe arrays for the wire, without a copy where they are contiguous."""
    return [
        Tensor(name, DATATYPES[array.dtype], array.shape, tensor_bytes(array))
        for name, array in tensors.items()
    ]


def unpack_tensors(tensors: list[Tensor]) -> Tensors:
    """Return the arrays; they are read-only views of the frame."""
    return {tensor.name: _array_of(tensor).reshape(tensor.shape) for tensor in tensors}


def _array_of(tensor: Tensor) -> NDArray[Any]:
    if tensor.datatype == "BYTES":
        return unpack_texts(tensor.data)
    return np.frombuffer(tensor.data, NUMPY_DTYPES[tensor.datatype])


class FrameProtocol(asyncio.Protocol):
    """One end of a connection: cuts the byte stream into frames and writes many frames at once."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._unsent: list[bytes | bytearray] = []
        self._transport: asyncio.Transport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._unsent.clear()
        self.closed()

    @override
    def data_received(self, data: bytes) -> None:
        self._received += data
        start = 0
        while len(self._received) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._received, start)
            body = start + _LENGTH.size
            if length > MAX_FRAME_BYTES:
                self.close()
                return
            if len(self._received) - body < length:
                break
            start = body + length
            with memoryview(self._received) as received:
                frame = bytes(received[body:start])
            self.frame_received(frame)
        if start:
            del self._received[:start]

    def send(self, frame: bytes | bytearray) -> None:
        """Queue a frame; all frames of one turn of the event loop leave in one write."""
        if self._transport is None:
            return
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(frame)

    def close(self) -> None:
        """Close the connection after what is queued has been written."""
        if self._transport is not None:
            self._flush()
            self._transport.close()

    def frame_received(self, body: bytes) -> None:
        """Handle the body of one frame."""
        raise NotImplementedError

    def closed(self) -> None:
        """Handle the end of the connection."""

    def _flush(self) -> None:
        frames, self._unsent = self._unsent, []
        if frames and self._transport is not None:
            self._transport.writelines(frames)
