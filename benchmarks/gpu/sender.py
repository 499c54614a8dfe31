"""Closed-loop clients in processes of their own: one of ours sends too little for many gateways."""

import asyncio
import multiprocessing
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import uvloop


@dataclass
class Sent:
    """What clients saw: seconds of each answer, and how many there were of each status."""

    durations: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)


async def send(
    port: int, contents: Sequence[bytes], num_clients: int, seconds: float, num_processes: int
) -> dict[str, float]:
    """Keep connections busy for some time, after a quarter of it that does not count.

    Args:
        port: Of the server.
        contents: Whole HTTP requests, sent in turn.
        num_clients: Connections in all.
        seconds: Time that counts.
        num_processes: What the connections are divided among, as far as there are enough.
    """
    num_processes = min(num_processes, num_clients)
    shares = [len(range(n, num_clients, num_processes)) for n in range(num_processes)]
    loop = asyncio.get_running_loop()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_processes, mp_context=context) as pool:
        await asyncio.gather(*(loop.run_in_executor(pool, _wake) for _ in shares))
        begins_at = time.time() + 0.2
        calls = [
            loop.run_in_executor(pool, _send, port, list(contents), share, seconds, begins_at)
            for share in shares
        ]
        parts = await asyncio.gather(*calls)
    statuses = sum((part.statuses for part in parts), Counter[str]())
    durations = np.array([one for part in parts for one in part.durations]) * 1000
    return {
        "requests/s": len(durations) / seconds,
        "p50 ms": float(np.percentile(durations, 50)),
        "p99 ms": float(np.percentile(durations, 99)),
        "errors": statuses.total() - statuses["200"],
    }


def _wake() -> None:
    time.sleep(0.01)  # so that each process takes one of these


def _send(
    port: int, contents: list[bytes], num_clients: int, seconds: float, begins_at: float
) -> Sent:
    return uvloop.run(_Senders(port, contents, seconds).run(num_clients, begins_at))


class _Senders:
    def __init__(self, port: int, contents: list[bytes], seconds: float) -> None:
        self._port = port
        self._contents = contents
        self._seconds = seconds
        self._sent = Sent()

    async def run(self, num_clients: int, begins_at: float) -> Sent:
        await asyncio.sleep(max(0.0, begins_at - time.time()))
        counts_from = time.perf_counter() + self._seconds / 4
        await asyncio.gather(*(self._client(n, counts_from) for n in range(num_clients)))
        return self._sent

    async def _client(self, number: int, counts_from: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        ends_at = counts_from + self._seconds
        while (sent := time.perf_counter()) < ends_at or not self._sent.durations:
            number += 1
            writer.write(self._contents[number % len(self._contents)])
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            if sent >= counts_from:
                self._sent.durations.append(time.perf_counter() - sent)
                self._sent.statuses[head[9:12].decode()] += 1
        writer.close()
