"""Mixed load for a long time, every answer checked: python -m benchmarks.soak --minutes 30.

Two gateways and two runners; JSON, binary tensors, CSV files and streams, while the model is
replaced every minute (``--swap-every`` says otherwise) by another one whose answers differ. An
answer names its version, and so the numbers that it must hold. Counts what was lost, wrong or
refused, and reads the memory of all processes ten times; growth is counted from three minutes on
(from a quarter of a shorter run). Prints figures and writes benchmarks/results/soak.json.
"""

import argparse
import asyncio
import csv
import io
import json
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.runner.engine import OrtEngine
from benchmarks.environment import describe_environment
from benchmarks.model_changes import read_resident_mib, sound_models
from tests.e2e.client import Answer, Client, LostRequestError
from tests.e2e.service import Service, serving, write_model
from tests.e2e.test_model_changes import LOAD, publish

RESULTS = Path(__file__).parent / "results" / "soak.json"
FORECAST = "/v1/models/tiny/forecast"
NUM_HISTORIES = 100
NUM_FILES = 5
SETTLED_S = 180.0
SWAP_EVERY_S = 60.0
NUM_READINGS = 10
SETTINGS = {
    "model_control": "explicit",
    "retire_after_s": 1.0,
    "access_log": False,
    "gateways": 2,
    "runners": 2,
}
TOLERANCE = 1e-5

Figures = dict[str, float | int | str | list[float]]


class Truth:
    """What each of the two models answers; odd versions are the first one."""

    def __init__(self, models: list[bytes]) -> None:
        self._engines = [OrtEngine.from_bytes(model, "cpu") for model in models]
        self._versions = {engine.file_digest: 1 + n for n, engine in enumerate(self._engines)}
        self._known: dict[tuple[int, bytes], NDArray[np.float32]] = {}
        self.levels = [repr(level) for level in self._engines[0].card.quantile_levels]

    def version_of(self, digest: str) -> int:
        """Return the first version that is the model of this digest."""
        return self._versions[digest]

    def quantiles(self, version: int, history: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return ``(horizon, num_levels)``."""
        model = (version + 1) % 2
        key = (model, history.tobytes())
        if key not in self._known:
            inputs = {
                "past_target": history[None],
                "sequence_lens": np.array([len(history)], np.int32),
            }
            self._known[key] = self._engines[model].run(inputs, ["quantiles"])["quantiles"][0]
        return self._known[key]

    def is_right(self, found: object, version: int, history: NDArray[np.float32]) -> bool:
        """Compare ``(horizon, num_levels)`` numbers."""
        wanted = self.quantiles(version, history)
        return np.allclose(np.asarray(found, np.float32), wanted, rtol=TOLERANCE, atol=TOLERANCE)

    def is_right_by_level(
        self, found: dict[str, list[float]], version: int, history: NDArray[np.float32]
    ) -> bool:
        """Compare a list of numbers for each level."""
        columns = [found[level] for level in self.levels]
        return self.is_right(np.array(columns).T, version, history)


class Soak:
    """The load, and what became of it."""

    def __init__(
        self, service: Service, directory: Path, models: list[bytes], *, swap_every_s: float
    ) -> None:
        random = np.random.default_rng(5)
        self.counts: Counter[str] = Counter(lost=0, wrong=0)
        self.slowest_s = 0.0
        self._service = service
        self._directory = directory
        self._models = models
        self._truth = Truth(models)
        self._swap_every_s = swap_every_s
        self._ends_at = 0.0
        self._histories = [
            random.gamma(5, 20, random.integers(8, 400)).astype(np.float32).round(2)
            for _ in range(NUM_HISTORIES)
        ]

    async def run(self, seconds: float) -> Figures:
        """Load the service and count."""
        self._ends_at = time.monotonic() + seconds
        kinds: list[tuple[Callable[[Client, int], Awaitable[None]], int]] = [
            (self._ask_json, 12), (self._ask_binary, 6), (self._ask_file, 2),
            (self._ask_stream, 4), (self._swap, 1),
        ]  # fmt: skip
        async with asyncio.TaskGroup() as group:
            for ask, count in kinds:
                for number in range(count):
                    group.create_task(self._repeat(ask, number))
            reading = group.create_task(self._read_memories(seconds))
        read = reading.result()
        return {
            "minutes": round(seconds / 60, 1),
            "swap every, s": self._swap_every_s,
            **dict(sorted(self.counts.items())),
            "slowest answer, s": round(self.slowest_s, 2),
            **{f"{name}, MiB": mib for name, mib in read.items()},
            **{f"growth of {name}, %": _growth(mib) for name, mib in read.items()},
        }

    async def _read_memories(self, seconds: float) -> dict[str, list[float]]:
        """Read the memory from when it has settled to the end, at equal distances."""
        settled_s = min(SETTLED_S, seconds / 4)
        pids = {"gateways": self._service.gateways, "runners": self._service.runners}
        read: dict[str, list[float]] = {name: [] for name in pids}
        await asyncio.sleep(settled_s)
        while True:
            for name, found in pids.items():
                read[name].append(round(sum(map(read_resident_mib, found)), 1))
            if len(read["runners"]) == NUM_READINGS:
                return read
            await asyncio.sleep((seconds - settled_s) / (NUM_READINGS - 1))

    async def _repeat(self, ask: Callable[[Client, int], Awaitable[None]], number: int) -> None:
        async with Client(self._service.port) as client:
            turn = number
            while time.monotonic() < self._ends_at:
                try:
                    await ask(client, turn)
                except (LostRequestError, OSError):
                    self.counts["lost"] += 1
                turn += 97

    async def _ask_json(self, client: Client, turn: int) -> None:
        chosen = [self._histories[(turn + n) % NUM_HISTORIES] for n in range(1 + turn % 3)]
        body = {"series": [{"target": _numbers(history)} for history in chosen]}
        answer = await self._timed(client.post(FORECAST, body), "JSON")
        if answer.status == 200:
            content = answer.json()
            for history, one in zip(chosen, content["forecasts"], strict=True):
                self._judge_by_level(one["quantiles"], content["model_version"], history)

    async def _ask_binary(self, client: Client, turn: int) -> None:
        history = self._histories[turn % NUM_HISTORIES]
        rows = 1 + turn % 40
        data = {
            "past_target": np.tile(history, (rows, 1)),
            "sequence_lens": np.full(rows, len(history), np.int32),
        }
        inputs = [
            {
                "name": name,
                "shape": array.shape,
                "datatype": {"f": "FP32", "i": "INT32"}[array.dtype.kind],
                "parameters": {"binary_data_size": array.nbytes},
            }
            for name, array in data.items()
        ]
        wanted = [{"name": "quantiles", "parameters": {"binary_data": True}}]
        head = json.dumps({"inputs": inputs, "outputs": wanted}).encode()
        body = head + b"".join(array.tobytes() for array in data.values())
        headers = {"inference-header-content-length": str(len(head))}
        answer = await self._timed(
            client.send("POST", "/v2/models/tiny/infer", body, headers), "binary"
        )
        if answer.status == 200:
            length = int(answer.headers["inference-header-content-length"])
            version = int(json.loads(answer.body[:length])["model_version"])
            found = np.frombuffer(answer.body[length:], np.float32)
            for row in found.reshape(rows, -1, len(self._truth.levels)):
                self._judge(self._truth.is_right(row, version, history))

    async def _ask_file(self, client: Client, turn: int) -> None:
        names = [(turn * NUM_FILES + n) % NUM_HISTORIES for n in range(NUM_FILES)]
        rows = [
            f"{name},{step},{value}"
            for name in names
            for step, value in enumerate(_numbers(self._histories[name]))
        ]
        body = "\n".join(["item_id,timestamp,target", *rows, ""]).encode()
        headers = {"content-type": "text/csv"}
        answer = await self._timed(client.send("POST", FORECAST, body, headers), "file")
        if answer.status == 200:
            table = list(csv.DictReader(io.StringIO(answer.body.decode())))
            version = self._truth.version_of(answer.headers["x-model-digest"][len("sha256=") :])
            for name in names:
                lines = [line for line in table if line["item_id"] == str(name)]
                found = [[float(line[level]) for level in self._truth.levels] for line in lines]
                self._judge(self._truth.is_right(found, version, self._histories[name]))

    async def _ask_stream(self, client: Client, turn: int) -> None:
        history = self._histories[turn % NUM_HISTORIES]
        path = f"/v1/models/tiny/streams/soak-{turn % 97}"
        values, step = _numbers(history), len(history) // 2
        body = json.dumps({"target": values[:step]}).encode()
        headers = {"content-type": "application/json"}
        made = await self._timed(client.send("PUT", path, body, headers), "stream")
        while made.status in {200, 201} and step < min(len(values), len(history) // 2 + 5):
            new = {"step": step, "values": values[step : step + 1]}
            answer = await self._timed(client.post(f"{path}/observations", new), "stream")
            if answer.status != 200:
                break
            step += 1
            content = answer.json()
            self._judge_by_level(content["quantiles"], content["model_version"], history[:step])

    async def _swap(self, client: Client, _turn: int) -> None:
        await asyncio.sleep(min(self._swap_every_s, max(0.0, self._ends_at - time.monotonic())))
        version = 2 + self.counts["swaps"]
        await asyncio.to_thread(publish, self._directory, version, self._models[(version + 1) % 2])
        answer = await self._timed(client.post(LOAD, {}), "load")
        assert answer.status == 200, answer.body
        self.counts["swaps"] += 1

    def _judge_by_level(
        self, found: dict[str, list[float]], version: int, history: NDArray[np.float32]
    ) -> None:
        self._judge(self._truth.is_right_by_level(found, version, history))

    def _judge(self, is_right: bool) -> None:
        self.counts["right" if is_right else "wrong"] += 1

    async def _timed(self, asking: Awaitable[Answer], kind: str) -> Answer:
        started = time.monotonic()
        answer = await asking
        self.slowest_s = max(self.slowest_s, time.monotonic() - started)
        is_good = answer.status in {200, 201}
        self.counts[f"{kind}, requests" if is_good else f"{kind}, status {answer.status}"] += 1
        return answer


def _growth(mib: list[float]) -> float:
    return round(100 * (mib[-1] / mib[0] - 1), 1)


def _numbers(history: NDArray[np.float32]) -> list[float]:
    return [round(value, 2) for value in history.tolist()]


async def main() -> None:
    """Load, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--swap-every", type=float, default=SWAP_EVERY_S, metavar="SECONDS")
    arguments = parser.parse_args()
    models = sound_models()
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder), models[0])
        async with serving(Path(folder), **SETTINGS) as service:
            soak = Soak(service, Path(folder), models, swap_every_s=arguments.swap_every)
            figures = await soak.run(60 * arguments.minutes)
    text = json.dumps({"environment": describe_environment(), "figures": figures}, indent=2)
    print(text)
    RESULTS.write_text(text + "\n")


if __name__ == "__main__":
    asyncio.run(main())
