"""Histories go to the runner that keeps their states."""

import asyncio
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.gateway.affinity import choose_keeper, history_key
from app.gateway.runner_client import RunnerPool
from app.runner.engine import OrtEngine
from app.tensors import Tensors
from tests.app.test_runner_client import inference
from tests.app.test_runner_client import runner as serve
from tests.tiny_artifact import tiny_artifact
from tests.waiting import until

NAMES = ["runner-0.sock", "runner-1.sock", "runner-2.sock"]


def key(number: int, steps: int = 20, owner: str = "a") -> bytes:
    target = np.random.default_rng(number).normal(size=(1, 40)).astype(np.float32)
    return history_key(owner, "monthly", {"past_target": target[:, :steps]})


def test_key_stays_while_a_history_grows_and_differs_between_callers() -> None:
    assert key(1, 20) == key(1, 40)
    assert len({key(1), key(2), key(1, owner="b")}) == 3


def test_only_what_a_lost_runner_kept_moves() -> None:
    keys = [key(number) for number in range(300)]
    before = [NAMES[choose_keeper(one, NAMES)] for one in keys]
    after = [NAMES[choose_keeper(one, NAMES[:2])] for one in keys]
    assert min(Counter(before).values()) > 60
    assert all(b in (NAMES[2], a) for b, a in zip(before, after, strict=True))


class GatedEngine:
    """A real engine whose runs wait for a gate."""

    def __init__(self, engine: OrtEngine, gate: threading.Event) -> None:
        self.interface = engine.interface
        self.rows: list[int] = []
        self._engine, self._gate = engine, gate

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        self.rows.append(len(inputs["past_target"]))
        assert self._gate.wait(10)
        return self._engine.run(inputs, outputs)


@pytest.mark.parametrize(("owner", "most_at_one"), [("a", 18), (None, 10)], ids=["kept", "free"])
async def test_busy_keeper_is_passed_by(
    tmp_path: Path, owner: str | None, most_at_one: int
) -> None:
    real, gate = OrtEngine.from_bytes(tiny_artifact(), "cpu"), threading.Event()
    engines = [GatedEngine(real, gate), GatedEngine(real, gate)]
    paths = [tmp_path / "0" / "r0", tmp_path / "1" / "r1"]
    async with AsyncExitStack() as stack:
        for path, engine in zip(paths, engines, strict=True):
            path.parent.mkdir()
            executor = stack.enter_context(ThreadPoolExecutor(1))
            await stack.enter_async_context(serve(path, real, engine, executor))
        pool = await stack.enter_async_context(
            RunnerPool(paths, silence_s=5.0, max_queue_steps=10_000)
        )
        await until(lambda: len(pool._live()) == 2)
        call = replace(inference([1.0, 2.0]), owner=owner)
        calls = [asyncio.create_task(pool.infer(call)) for _ in range(20)]
        await until(lambda: all(engine.rows for engine in engines))
        gate.set()
        await asyncio.gather(*calls)
    rows = sorted(sum(engine.rows) for engine in engines)
    assert rows == [20 - most_at_one, most_at_one]
