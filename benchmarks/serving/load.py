"""Requests of the benchmark, their answers, and a closed loop that sends them."""

import asyncio
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HEADER = "inference-header-content-length"
TOLERANCE = 2e-5

_SCRIPT = Path(__file__).with_name("load.lua")
_NUM_REQUESTS = 128
_PATIENCE_S = 120
_REFUSED = b"HTTP/1.1 503"

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, and the forecast that it asks for: ``(batch, horizon, num_levels)``."""

    content: bytes
    expected: NDArray[np.float32]


Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def tensor_requests(
    run: Run, lengths: Sequence[int], *, rows: int = 1, is_binary: bool = False, priority: int = 0
) -> list[Request]:
    """Return different requests of ``/v2`` whose lengths are those of ``lengths`` in turn."""
    parameters = {"priority": priority} if priority else {}
    random = np.random.default_rng(7)
    requests: list[Request] = []
    for number in range(_NUM_REQUESTS if rows == 1 else 4):
        history = random.normal(size=(rows, lengths[number % len(lengths)], 1)).astype(np.float32)
        history = np.round(history, 5)
        body = _tensor_body(history, parameters, is_binary=is_binary)
        requests.append(Request(_post("/v2/models/m/infer", *body), run(history)))
    return requests


def native_requests(run: Run, model_name: str, length: int) -> list[Request]:
    """Return different requests of the native API, one series each."""
    histories = make_histories(_NUM_REQUESTS, length)
    return [native_request(model_name, history, run(history[None])) for history in histories]


def native_request(
    model_name: str, history: NDArray[np.float32], expected: NDArray[np.float32]
) -> Request:
    """Return a request of the native API for the series ``(time, 1)``."""
    target = [round(value, 2) for value in history[:, 0].tolist()]
    body = json.dumps({"series": [{"target": target}]}).encode()
    return Request(_post(f"/v1/models/{model_name}/forecast", body), expected)


def make_histories(count: int, length: int) -> NDArray[np.float32]:
    """Return series that a forecaster may meet, ``(count, length, 1)``, with two decimals."""
    random = np.random.default_rng(7)
    histories = np.round(100 + 20 * random.normal(size=(count, length, 1)), 2)
    return histories.astype(np.float32)


def with_header(request: Request, name: str, value: str) -> Request:
    """Return the same request with one header more."""
    host, rest = b"Host: bench\r\n", f"{name}: {value}\r\n".encode()
    return Request(request.content.replace(host, host + rest, 1), request.expected)


async def check_answers(port: int, requests: Sequence[Request], num_clients: int) -> None:
    """Send every request once, and compare the answers."""
    difference = largest_difference(requests, await send_once(port, requests, num_clients))
    assert difference < TOLERANCE, difference


async def send_once(
    port: int, requests: Sequence[Request], num_clients: int
) -> list[tuple[bytes, bytes]]:
    """Send every request once, in turn, ``num_clients`` at a time; what is refused, again.

    Returns: Head and body of every answer, in the order of the requests; all are good.
    """
    answers = [(b"", b"")] * len(requests)
    numbers = iter(range(len(requests)))

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            head, body = _REFUSED, b""
            while head.startswith(_REFUSED):
                writer.write(requests[number].content)
                head, body = answers[number] = await _read_answer(reader)
            assert head.startswith(b"HTTP/1.1 200"), (head, body)
        writer.close()

    async with asyncio.timeout(_PATIENCE_S):
        await asyncio.gather(*(client() for _ in range(num_clients)))
    return answers


def largest_difference(
    requests: Sequence[Request], answers: Sequence[tuple[bytes, bytes]]
) -> float:
    """Return the largest difference of any number, relative to it where it is beyond 1.

    Args:
        requests: What was sent.
        answers: Head and body of the answer to each.
    """
    return max(
        difference_of(request, *answer) for request, answer in zip(requests, answers, strict=True)
    )


def difference_of(request: Request, head: bytes, body: bytes) -> float:
    """Return the largest difference of any number of an answer from what was expected."""
    expected = request.expected
    found = forecast_of(head, body).reshape(expected.shape)
    return float((np.abs(found - expected) / np.maximum(1, np.abs(expected))).max())


async def send_for(
    seconds: float, port: int, requests: Sequence[Request], num_clients: int
) -> Figures:
    """Keep ``num_clients`` connections busy: by wrk, or where there is none by ourselves."""
    if shutil.which("wrk"):
        return await _send_by_wrk(seconds, port, requests, num_clients)
    return await _send_by_streams(seconds, port, requests, num_clients)


async def _send_by_wrk(
    seconds: float, port: int, requests: Sequence[Request], num_clients: int
) -> Figures:
    with tempfile.NamedTemporaryFile() as file:
        for request in requests:
            file.write(b"%d\n%b" % (len(request.content), request.content))
        file.flush()
        options = ["-t1", f"-c{num_clients}", f"-d{seconds:g}s", "--timeout=30s"]
        process = await asyncio.create_subprocess_exec(
            "wrk", *options, "-s", str(_SCRIPT), f"http://127.0.0.1:{port}/",
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "REQUESTS": file.name},
        )  # fmt: skip
        output, _ = await process.communicate()
    figures: Figures = json.loads(output.splitlines()[-1])
    return figures


async def _send_by_streams(
    seconds: float, port: int, requests: Sequence[Request], num_clients: int
) -> Figures:
    started = time.perf_counter()
    durations: list[float] = []
    errors = 0

    async def client(number: int) -> None:
        nonlocal errors
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (sent := time.perf_counter()) < started + seconds:
            number += 1
            writer.write(requests[number % len(requests)].content)
            head, _ = await _read_answer(reader)
            durations.append(time.perf_counter() - sent)
            errors += not head.startswith(b"HTTP/1.1 200")
        writer.close()

    await asyncio.gather(*(client(number) for number in range(num_clients)))
    p50, p99 = np.percentile(durations, (50, 99)) * 1000
    elapsed = time.perf_counter() - started
    return {
        "requests": len(durations),
        "seconds": elapsed,
        "p50 ms": float(p50),
        "p99 ms": float(p99),
        "errors": errors,
    }


async def _read_answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).replace(b"Content-Length", b"content-length")
    length = int(head.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
    return head, await reader.readexactly(length)


def forecast_of(head: bytes, body: bytes) -> NDArray[np.float32]:
    """Return the numbers of an answer: those of ``/v2`` flat, ``(horizon, num_levels)`` of ours."""
    fields = dict(line.lower().split(b": ", 1) for line in head.splitlines()[1:] if line)
    if length := fields.get(HEADER.encode()):
        return np.frombuffer(body[int(length) :], np.float32)
    content = json.loads(body)
    if "outputs" in content:
        return np.array(content["outputs"][0]["data"], np.float32)
    return np.array(list(content["forecasts"][0]["quantiles"].values()), np.float32).T


def _tensor_body(
    history: NDArray[np.float32], parameters: dict[str, int], *, is_binary: bool
) -> tuple[bytes, dict[str, str]]:
    tensor: dict[str, Any] = {"name": "history", "shape": history.shape, "datatype": "FP32"}
    if not is_binary:
        values = [round(value, 5) for value in history.reshape(-1).tolist()]
        content: dict[str, Any] = {"inputs": [tensor | {"data": values}]}
        if parameters:
            content["parameters"] = parameters
        return json.dumps(content).encode(), {}
    tensor["parameters"] = {"binary_data_size": history.nbytes}
    content = {"inputs": [tensor], "parameters": {"binary_data_output": True, **parameters}}
    head = json.dumps(content).encode()
    return head + history.tobytes(), {HEADER: str(len(head))}


def _post(path: str, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    fields = {
        "Host": "bench",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        **(headers or {}),
    }
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body
