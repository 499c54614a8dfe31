"""What it costs to refuse a request at once: python -m benchmarks.refusals.

Processor time of a request from its bytes to those of its answer, sockets not included: refused by
the turnstile, without keys and with one, and beside it a bare ASGI function under uvicorn that
parses the same JSON and writes a constant. In turns, in one process. Prints medians and writes
benchmarks/results/refusals.json.
"""

import asyncio
import json
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import uvicorn
import uvloop
from typing_extensions import override
from uvicorn.server import ServerState

from app.errors import OverloadedError
from app.gateway.drain import Drain
from app.gateway.pauses import Flow, Pauses
from app.gateway.protocol import with_header_timeout
from app.gateway.turnstile import Turnstile
from app.keys import KeyRing, create_key, load_keys
from benchmarks.environment import describe_environment
from benchmarks.serving.peers import floor_asgi

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = Path(__file__).parent / "results" / "refusals.json"
NUM_ROUNDS = 15
NUM_REQUESTS = 2_000
NUM_STEPS = 96
PATH = "/v1/models/lstm/forecast"
REASON = OverloadedError("too much work waits for this model", 3, pause_s=1e6)
REFUSED, ANSWERED = b"HTTP/1.1 503", b"HTTP/1.1 200"


class Answers(asyncio.Transport):
    """Takes what a connection writes, and tells when an answer has begun."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.written = asyncio.Event()
        self.last = b""

    @override
    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.written.is_set():
            self.last = bytes(data)
        self.written.set()

    @override
    def is_closing(self) -> bool:
        return False

    @override
    def close(self) -> None:
        pass

    @override
    def pause_reading(self) -> None:
        pass

    @override
    def resume_reading(self) -> None:
        pass


class Connection:
    """A connection that asks the same again and again, and checks the beginning of each answer."""

    def __init__(
        self, *, http: type[asyncio.Protocol] | str, key: str = "", expected: bytes
    ) -> None:
        config = uvicorn.Config(
            floor_asgi.app, http=cast("Any", http), ws="none", lifespan="off", log_config=None,
            access_log=False,
        )  # fmt: skip
        config.load()
        make = cast("Callable[..., asyncio.Protocol]", config.http_protocol_class)
        self._protocol = make(config=config, server_state=ServerState(), app_state={})
        self._answers = Answers()
        self._request = _request(key)
        self._expected = expected
        self._protocol.connection_made(self._answers)

    async def measure(self) -> float:
        """Return microseconds of the processor for one request."""
        started = time.process_time()
        for _ in range(NUM_REQUESTS):
            self._answers.written.clear()
            self._protocol.data_received(self._request)
            await self._answers.written.wait()
            assert self._answers.last.startswith(self._expected), self._answers.last
        return (time.process_time() - started) * 1e6 / NUM_REQUESTS


def _request(key: str) -> bytes:
    values = np.random.default_rng(1).gamma(5, 20, NUM_STEPS).round(2).tolist()
    body = json.dumps({"series": [{"target": values}]}).encode()
    authorization = f"authorization: Bearer {key}\r\n" if key else ""
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"{authorization}content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _turnstile(flow: str, key_ring: KeyRing | None) -> type[asyncio.Protocol]:
    pauses = Pauses()
    pauses.begin(Flow("lstm", flow), REASON)
    return with_header_timeout(15.0, Turnstile(pauses, key_ring, Drain(), access_log=True))


async def measure(directory: Path) -> dict[str, float]:
    """Return the median of each way."""
    key = create_key("benchmark")
    keys = directory / "keys"
    keys.write_text(key.line + "\n")
    key_ring = KeyRing(keys)
    ((key_id, _),) = load_keys(keys).items()
    ways = {
        "refused, without keys": Connection(http=_turnstile("", None), expected=REFUSED),
        "refused, with a key": Connection(
            http=_turnstile(key_id, key_ring), key=key.text, expected=REFUSED
        ),
        "a bare ASGI function": Connection(http="httptools", expected=ANSWERED),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(NUM_ROUNDS):
        for name, connection in ways.items():
            found[name].append(await connection.measure())
    return {f"{name}, us": round(statistics.median(times), 1) for name, times in found.items()}


def main() -> None:
    """Measure, print and write."""
    make_loop = uvloop.new_event_loop
    with TemporaryDirectory() as directory, asyncio.Runner(loop_factory=make_loop) as runner:
        figures = runner.run(measure(Path(directory)))
    text = json.dumps({"environment": describe_environment(), "figures": figures}, indent=2)
    print(text)
    RESULTS.write_text(text + "\n")


if __name__ == "__main__":
    main()
