"""Measures one server under a closed loop: requests a second, latency, and what they cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving.load import Figures, Request, check_answers, send_for
from benchmarks.serving.servers import Server

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bench:
    """How the benchmark is run.

    Attributes:
        folder: For files that are needed meanwhile.
        seconds: Time of each case, after a third of it to warm up.
        has_peers: Whether other servers are run as well.
    """

    folder: Path
    seconds: int
    has_peers: bool

    @property
    def warm_up_s(self) -> int:
        """Seconds that are not counted."""
        return max(1, self.seconds // 3)


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """``num_clients`` that each send one request after the other, of those in turn.

    ``model_name`` is what gatecast calls the model in its metrics.
    """

    requests: Sequence[Request]
    num_clients: int
    model_name: str = "m"

    async def warm_up(self, server: Server, seconds: int, *, is_checked: bool = True) -> None:
        """Send every request once, compare the answers, and go on for some time."""
        if is_checked:
            await check_answers(server.port, self.requests, self.num_clients)
        await send_for(seconds, server.port, self.requests, self.num_clients)

    async def measure(self, server: Server, seconds: int) -> Figures:
        """Send for some time; processor time is in microseconds a request."""
        batches, used = await server.metrics(self.model_name), server.cpu_seconds()
        sent = await send_for(seconds, server.port, self.requests, self.num_clients)
        used = {kind: value - used[kind] for kind, value in server.cpu_seconds().items()}
        done = {
            key: value - batches.get(key, 0)
            for key, value in (await server.metrics(self.model_name)).items()
        }
        return _rates(sent, used, done)


def cpu_us(used: Mapping[str, float], num_requests: float) -> Figures:
    """Return processor time in microseconds a request, from seconds by kind of process."""
    return {
        f"{kind} us": round(seconds / max(1, num_requests) * 1e6, 1)
        for kind, seconds in used.items()
    }


def cpu_us_of(rates: Mapping[str, float]) -> float:
    """Return the processor time of all kinds of process together."""
    return sum(rates.get(f"{kind} us", 0.0) for kind in ("server", "gateway", "runner"))


def _rates(sent: Figures, used: Mapping[str, float], done: Figures) -> Figures:
    num_good = sent["requests"] - sent["errors"]
    rates = {
        "requests/s": round(num_good / sent["seconds"], 1),
        "p50 ms": round(sent["p50 ms"], 2),
        "p99 ms": round(sent["p99 ms"], 2),
        "errors": int(sent["errors"]),
    }
    rates |= cpu_us(used, sent["requests"])
    runs = done.get("batch_rows_count", 0)
    if runs:
        rates["mean batch"] = round(done["batch_rows_sum"] / runs, 1)
        rates["padding"] = round(done["batch_padding_share_sum"] / runs, 3)
    return rates
