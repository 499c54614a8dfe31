"""The real tritonclient on model files without a card: every type, every axis, and sequences."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as sync
from numpy.typing import NDArray
from onnx import TensorProto
from tritonclient.http import aio
from tritonclient.utils import InferenceServerException

from tests.e2e.service import Service, write_model
from tests.e2e.test_oip_clients import aio_client, in_thread, make_input, ready_service
from tests.export.recurrent_oracles import run_equations
from tests.plain_models import (
    HIDDEN_SIZE,
    INPUT_SIZE,
    identity_model,
    lstm_model,
    lstm_weights,
    mixing_model,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

KINDS = {
    "bool": (TensorProto.BOOL, np.bool_, [[True, False]]),
    "uint8": (TensorProto.UINT8, np.uint8, [[0, 255]]),
    "uint16": (TensorProto.UINT16, np.uint16, [[0, 2**16 - 1]]),
    "uint32": (TensorProto.UINT32, np.uint32, [[0, 2**32 - 1]]),
    "uint64": (TensorProto.UINT64, np.uint64, [[0, 2**64 - 1]]),
    "int8": (TensorProto.INT8, np.int8, [[-128, 127]]),
    "int16": (TensorProto.INT16, np.int16, [[-(2**15), 2**15 - 1]]),
    "int32": (TensorProto.INT32, np.int32, [[-(2**31), 2**31 - 1]]),
    "int64": (TensorProto.INT64, np.int64, [[-(2**63), 2**63 - 1]]),
    "fp16": (TensorProto.FLOAT16, np.float16, [[0.5, 65504]]),
    "fp32": (TensorProto.FLOAT, np.float32, [[0.1, np.nan]]),
    "fp64": (TensorProto.DOUBLE, np.float64, [[0.1, 1e300]]),
    "bytes": (TensorProto.STRING, np.object_, [["", "größer"]]),
}
LIMIT = 1e-5


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("plain")
    for name, (kind, _, _) in KINDS.items():
        write_model(directory, identity_model(kind), name)
    write_model(directory, lstm_model(), "time_major")
    write_model(directory, lstm_model(is_batch_first=True, sizes=(None, None)), "batch_first")
    write_model(directory, lstm_model(has_lengths=False), "no_lengths")
    write_model(directory, mixing_model(), "mixing")
    return directory


@asynccontextmanager
async def plain_service(repository: Path, **settings: object) -> AsyncIterator[Service]:
    async with ready_service(repository, access_log=False, **settings) as service:
        yield service


def oracle(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the last hidden state of ``(time, batch, input)``."""
    steps, rows, _ = values.shape
    states = [np.zeros((rows, HIDDEN_SIZE), np.float32)] * 2
    _, hidden, _ = run_equations(lstm_weights(), values, np.full(rows, steps, np.int32), states)
    return hidden


def series(seed: int, steps: int, rows: int = 1) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).standard_normal((steps, rows, INPUT_SIZE))
    return values.astype(np.float32)


async def echo(client: Any, name: str, values: NDArray[Any], *, is_binary: bool) -> NDArray[Any]:
    """Send ``values`` through a model that gives them back, there and back in one form."""
    result = await client.infer(
        name,
        [make_input(aio, values, "x", is_binary=is_binary)],
        outputs=[aio.InferRequestedOutput("y", binary_data=is_binary)],
    )
    got: NDArray[Any] = result.as_numpy("y")
    if name == "bytes" and is_binary:
        got = np.array([[text.decode() for text in row] for row in got], np.object_)
    return got


async def test_every_type_comes_back_as_it_went(repository: Path) -> None:
    half = make_input(aio, np.ones((1, 2), np.float16), "x", is_binary=True)
    as_json = [aio.InferRequestedOutput("y", binary_data=False)]
    async with plain_service(repository) as service, aio_client(service) as client:
        for name, (_, dtype, rows) in KINDS.items():
            values: NDArray[Any] = np.array(rows, dtype)
            for is_binary in (True,) if name == "fp16" else (True, False):
                got = await echo(client, name, values, is_binary=is_binary)
                np.testing.assert_array_equal(got, values)
        with pytest.raises(InferenceServerException, match="FP16: ask for binary data"):
            await client.infer("fp16", [half], outputs=as_json)


async def test_merged_requests_of_unlike_lengths_equal_the_equations(repository: Path) -> None:
    requests = [series(n, steps=n % 7 + 5, rows=n % 3 + 1) for n in range(40)]

    async def ask(client: Any, name: str, values: NDArray[np.float32]) -> None:
        given = values.swapaxes(0, 1) if name == "batch_first" else values
        tensor = make_input(aio, np.ascontiguousarray(given), "X", is_binary=True)
        result = await client.infer(name, [tensor])
        np.testing.assert_allclose(result.as_numpy("Y_h")[0], oracle(values), atol=LIMIT)
        steps = result.as_numpy("Y").shape[1 if name == "batch_first" else 0]
        assert steps == len(values)

    delay = {"max_queue_delay_ms": 200.0}  # so that they do meet
    async with plain_service(repository, **delay) as service, aio_client(service) as client:
        for name in ("time_major", "batch_first", "no_lengths"):
            await asyncio.gather(*(ask(client, name, values) for values in requests))
            (found,) = (await client.get_inference_statistics(name))["model_stats"]
            assert found["inference_count"] == sum(values.shape[1] for values in requests)
            assert found["execution_count"] < len(requests)


async def test_model_that_mixes_rows_answers_as_if_alone(repository: Path) -> None:
    async def ask(client: Any, rows: int) -> None:
        values = np.random.default_rng(rows).standard_normal((rows, 2)).astype(np.float32)
        result = await client.infer("mixing", [make_input(aio, values, "x", is_binary=True)])
        np.testing.assert_allclose(result.as_numpy("y"), values - values.mean(0), atol=LIMIT)

    async with plain_service(repository) as service, aio_client(service) as client:
        await asyncio.gather(*(ask(client, n % 4 + 1) for n in range(20)))


async def test_sequences_go_to_the_runner_that_keeps_them(repository: Path) -> None:
    names: list[int | str] = [*range(1, 9), *(f"till {n}" for n in range(8))]

    async def play(client: Any, name: int | str, number: int) -> None:
        is_binary = number % 2 == 0
        parts = [series(number * 10 + n, steps=n + 1) for n in range(5)]
        tensors = [make_input(aio, part, "X", is_binary=is_binary) for part in parts]
        for n, tensor in enumerate(tensors):
            result = await client.infer(
                "time_major",
                [tensor],
                outputs=[aio.InferRequestedOutput("Y_h", binary_data=is_binary)],
                sequence_id=name,
                sequence_start=n == 0,
                sequence_end=n == len(parts) - 1,
                request_compression_algorithm="gzip",
            )
            want = oracle(np.concatenate(parts[: n + 1]))
            np.testing.assert_allclose(result.as_numpy("Y_h")[0], want, atol=LIMIT)
        with pytest.raises(InferenceServerException, match="no such sequence"):
            await client.infer("time_major", [tensors[0]], sequence_id=name)

    settings = {"gateways": 2, "runners": 2}
    async with plain_service(repository, **settings) as service, aio_client(service) as client:
        await asyncio.gather(*(play(client, name, n) for n, name in enumerate(names)))


async def test_sequence_of_the_synchronous_client(repository: Path) -> None:
    parts = [series(n, steps=3) for n in range(3)]

    def play(client: Any) -> list[NDArray[np.float32]]:
        return [
            client.infer(
                "time_major",
                [make_input(sync, part, "X", is_binary=True)],
                sequence_id=7,
                sequence_start=n == 0,
                sequence_end=n == len(parts) - 1,
                priority=1,
                timeout=5_000_000,
            ).as_numpy("Y_h")[0]
            for n, part in enumerate(parts)
        ]

    async with plain_service(repository) as service:
        got = await in_thread(service, play)
    for n, hidden in enumerate(got):
        np.testing.assert_allclose(hidden, oracle(np.concatenate(parts[: n + 1])), atol=LIMIT)


async def refusal(client: Any, tensor: Any) -> Any:
    with pytest.raises(InferenceServerException) as caught:
        await client.infer("time_major", [tensor], sequence_id=1)
    return caught.value


async def test_sequence_does_not_go_on_from_zero_after_its_runner_was_replaced(
    repository: Path,
) -> None:
    tensor = make_input(aio, series(0, steps=3), "X", is_binary=True)
    async with plain_service(repository) as service, aio_client(service) as client:
        await client.infer("time_major", [tensor], sequence_id=1, sequence_start=True)
        (runner,) = service.runners
        os.kill(runner, signal.SIGKILL)
        await service.wait_for_another_runner(runner)
        while (error := await refusal(client, tensor)).status() == "503":  # not up yet
            await asyncio.sleep(0.05)
        assert "its runner was replaced" in error.message()
        await client.infer("time_major", [tensor], sequence_id=1, sequence_start=True)
