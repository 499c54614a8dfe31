"""What the servers are asked in a closed loop, and how near to the limits they come."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.serving import forecaster
from benchmarks.serving.load import Request, make_histories, native_requests, tensor_requests
from benchmarks.serving.rates import Row, cpu_us_of
from benchmarks.serving.raw import Cost, RawModel
from benchmarks.serving.servers import ROOT

LENGTH = 96
LIMIT_ROWS = 16
"""Of a run in ONNX Runtime alone, with which a server is compared."""
STARTER = ROOT / "model_repository" / "monthly"
ALL = ("gatecast", "floor", "litserve", "triton")

_MIXED = (24, 48, 96, 192, 352, 512)
_PLAIN = "m"


@dataclass(frozen=True, slots=True)
class Case:
    """What is asked, how often at a time, and who can answer it.

    Attributes:
        hidden_size: Of the plain LSTM that is served, and with 128 two forecasters beside it.
        model_name: Which of these models is asked; those with a name of their own by the native
            API.
    """

    name: str
    num_clients: int
    hidden_size: int = 128
    rows: int = 1
    lengths: Sequence[int] = (LENGTH,)
    is_binary: bool = False
    model_name: str = _PLAIN
    servers: Sequence[str] = ("gatecast",)

    @property
    def model(self) -> str:
        """What the model is called in the results."""
        if self.model_name == _PLAIN:
            return f"LSTM-{self.hidden_size}"
        return {"monthly": "starter", forecaster.NAME: "LSTM-128 forecaster"}[self.model_name]

    @property
    def raw(self) -> RawModel:
        """The model without a server."""
        return _raw_model(self.model_name, self.hidden_size)

    def requests(self) -> list[Request]:
        """Return different requests, and what must be answered."""
        if self.model_name != _PLAIN:
            return native_requests(self.raw.run, self.model_name, LENGTH)
        return tensor_requests(self.raw.run, self.lengths, rows=self.rows, is_binary=self.is_binary)

    def limit_input(self) -> NDArray[np.float32] | None:
        """Return one batch of such histories; None where they are of several lengths."""
        return make_histories(LIMIT_ROWS, LENGTH) if len(self.lengths) == 1 else None


CASES = [
    Case("JSON", 1, servers=ALL),
    Case("JSON", 16, servers=ALL),
    Case("JSON", 64, servers=ALL),
    Case("JSON", 256, servers=ALL),
    Case("binary", 64, is_binary=True),
    Case("native API", 64, model_name=forecaster.NAME, servers=("gatecast", "floor")),
    Case("native API, starter", 64, model_name="monthly"),
    Case("mixed lengths", 64, lengths=_MIXED, servers=("gatecast", "triton")),
    Case("16 series, binary", 16, rows=16, is_binary=True),
    Case("1000 series, binary", 2, rows=1000, is_binary=True),
    Case("JSON", 1, hidden_size=512, servers=("gatecast", "litserve", "triton")),
    Case("JSON", 16, hidden_size=512, servers=("gatecast", "litserve", "triton")),
]


def compare(case: Case, raw: Sequence[Cost], rows: Mapping[str, Row]) -> Row:
    """Set gatecast beside the limits and Triton.

    Args:
        case: What was asked.
        raw: What ONNX Runtime alone cost just before and after.
        rows: What was measured, by server.
    """
    own = rows["gatecast"]
    speed: float = own["requests/s"]
    row: Row = {"model": case.model, "case": case.name, "clients": case.num_clients}
    if raw:
        row |= _shares(case, raw, rows)
    if "triton" in rows:
        row["times Triton"] = round(speed / rows["triton"]["requests/s"], 3)
        row["p50, times Triton's"] = round(own["p50 ms"] / rows["triton"]["p50 ms"], 3)
    row["p99, times clients / speed"] = round(own["p99 ms"] * speed / case.num_clients / 1000, 2)
    return row


def _shares(case: Case, raw: Sequence[Cost], rows: Mapping[str, Row]) -> Row:
    """Compare with one request's cost in ONNX Runtime and, where it was measured, of the floor."""
    own, floor = rows["gatecast"], rows.get("floor", {"requests/s": np.inf, "server us": 0.0})
    wall_us = case.rows * np.mean([cost.wall_us for cost in raw]) + 1e6 / floor["requests/s"]
    cpu_us = case.rows * np.mean([cost.cpu_us for cost in raw]) + floor["server us"]
    return {
        "raw, series/s": round(float(np.mean([cost.per_s for cost in raw])), 1),
        "share of the limit": round(float(own["requests/s"] * wall_us / 1e6), 3),
        "the same by processor time": round(float(cpu_us / cpu_us_of(own)), 3),
    }


@cache
def _raw_model(model_name: str, hidden_size: int) -> RawModel:
    if model_name == _PLAIN:
        return RawModel.plain(hidden_size)
    file = STARTER / "1" / "model.onnx" if model_name == "monthly" else forecaster.forecaster_file()
    return RawModel.forecaster(file.read_bytes())
