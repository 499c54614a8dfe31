"""How much is measured: in full on a GPU, or quickly on any machine, to see that it runs."""

import json
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.runner.engine import Device

STEPS = 96
PARITY = 1e-4
"""Largest difference from the CPU, relative to numbers beyond 1."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scale:
    """The sizes of what is measured.

    Attributes:
        hidden_sizes: Of the models, two layers each.
        batch_sizes: Of the table.
        rows: Series of a large request.
        seconds: Of each load.
        run_s: Of each size in the engine alone.
        gateways: Numbers of gateways.
        clients: Numbers of clients that are compared.
        num_senders: Processes that send.
        max_length: Of ragged series.
    """

    hidden_sizes: tuple[int, ...] = (128, 512)
    batch_sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 1024)
    rows: int = 1000
    seconds: float = 4.0
    run_s: float = 0.6
    gateways: tuple[int, ...] = (1, 2, 4, 8, 12)
    clients: tuple[int, ...] = (1, 16, 64, 256)
    num_senders: int = 3
    max_length: int = 512


QUICK = Scale(
    hidden_sizes=(16,),
    batch_sizes=(1, 4, 16),
    rows=20,
    seconds=0.3,
    run_s=0.05,
    gateways=(1, 2),
    clients=(1, 4),
    num_senders=1,
    max_length=64,
)


@dataclass
class Plan:
    """What is to be measured where, and what was found.

    Attributes:
        device: Where models run.
        scale: How much.
        ends_at: Time of ``time.monotonic()`` after which nothing new begins.
        header: What is written before the results.
        output: Where results are written; None writes none.
        found: Results by section.
        has_failed: Whether a section has ended with an error.
    """

    device: Device
    scale: Scale
    ends_at: float
    header: Row
    output: Path | None
    found: dict[str, list[Row]] = field(default_factory=dict)
    has_failed: bool = False

    async def section(self, name: str, measure: Callable[[list[Row]], Awaitable[None]]) -> None:
        """Collect the rows of one section, write them, and go on where it fails."""
        began = time.monotonic()
        rows = self.found[name] = []
        print(f"== {name}", flush=True)
        if self.is_over:
            show(rows, {"left out": "the time was over"})
        else:
            try:
                await measure(rows)
            except Exception as error:  # noqa: BLE001 - the other sections are worth their time
                self.has_failed = True
                traceback.print_exc()
                show(rows, {"failed": f"{type(error).__name__}: {error}"[:500]})
        print(f"   ({time.monotonic() - began:.1f} s)", flush=True)
        if self.output is not None:
            content = self.header | {"sections": self.found}
            self.output.write_text(json.dumps(content, indent=1, default=float) + "\n")

    @property
    def is_over(self) -> bool:
        """Whether nothing new may begin."""
        return time.monotonic() > self.ends_at


def show(rows: list[Row], row: Row) -> None:
    """Add a row and print it."""
    rows.append(row)
    cells = (f"{key} {_short(value)}" for key, value in row.items())
    print("   " + ", ".join(cells), flush=True)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
