"""Frames, cut at any byte."""

import asyncio
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from app.wire import (
    CancelRequest,
    FrameProtocol,
    InferRequest,
    ToRunner,
    encode,
    pack_tensors,
    unpack_tensors,
)

if TYPE_CHECKING:
    from app.tensors import Tensors


class Recorder(FrameProtocol):
    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[bytes] = []

    @override
    def frame_received(self, body: bytes) -> None:
        self.bodies.append(body)


@given(st.lists(st.integers(0, 2**31), min_size=1), st.integers(1, 40))
def test_frames_survive_any_cut_of_the_stream(ids: list[int], size: int) -> None:
    stream = b"".join(encode(CancelRequest(n)) for n in ids)
    recorder = Recorder()
    for start in range(0, len(stream), size):
        recorder.data_received(stream[start : start + size])
    decoded = [msgspec.msgpack.decode(body, type=ToRunner) for body in recorder.bodies]
    assert decoded == [CancelRequest(n) for n in ids]


def test_tensors_come_back_bit_for_bit() -> None:
    tensors: Tensors = {
        "past_target": np.array([[1.0, np.nan, -0.0]], np.float32),
        "sequence_lens": np.array([3], np.int32),
        "running_sums": np.zeros((1, 7), np.float64),
        "texts": np.array([["", "größer"]], object),
        "strided": np.arange(6, dtype=np.int64).reshape(2, 3).T,
    }
    message = InferRequest(1, "m", 1, 0.0, pack_tensors(tensors), ["quantiles"])
    body = encode(message)[4:]
    received = msgspec.msgpack.decode(body, type=ToRunner)
    assert isinstance(received, InferRequest)
    for name, array in unpack_tensors(received.inputs).items():
        np.testing.assert_array_equal(array, tensors[name])
        assert array.dtype == tensors[name].dtype


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.is_closed = False

    @override
    def close(self) -> None:
        self.is_closed = True


def test_frame_of_an_impossible_size_closes_the_connection() -> None:
    recorder, transport = Recorder(), Transport()
    recorder.connection_made(transport)
    recorder.data_received(b"\xff\xff\xff\xff....")
    assert transport.is_closed
    assert recorder.bodies == []
