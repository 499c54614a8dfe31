"""The engine alone, in this process: parity, sizes, bindings, buckets, slots and no memory."""

import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort

from app.artifact.directory import MODEL_FILE
from app.errors import GatecastError, OutOfMemoryError
from app.interface import Interface
from app.runner.batcher import DynamicBatcher
from app.runner.binding import Bindings
from app.runner.buckets import Buckets
from app.runner.engine import Engine, OrtEngine
from app.runner.loading import load_engine
from app.runner.queue import BatchLimits, PendingRequest, Terms
from app.runner.warming import warm_up
from app.tensors import Tensors
from benchmarks.gpu.device import make_inputs, used_memory_mib
from benchmarks.gpu.plan import PARITY, STEPS, Plan, Row, show
from benchmarks.serving.models import lstm_model

STARTER = Path(__file__).parents[2] / "model_repository" / "monthly" / "1" / MODEL_FILE
OUTPUTS = ["forecast"]
LIMITS = BatchLimits(1024, 1_048_576, 60.0, 0.25, 1 << 40, 0.0)

_LEAST_RUNS = 5
_SMALL_LIMIT_MIB = 192
_NUM_RAGGED = 200


async def measure_engines(plan: Plan) -> None:
    """Measure everything that needs no server."""
    models = {size: lstm_model(size, has_lengths=True) for size in plan.scale.hidden_sizes}
    first, last = (models[plan.scale.hidden_sizes[n]] for n in (0, -1))
    name = "parity with the CPU, ragged rows"
    await plan.section(name, partial(_check_parity, plan, models))
    await plan.section("kernels by provider", partial(_count_kernels, plan, first))
    for size, model in models.items():
        name = f"raw runs of {STEPS} steps, LSTM-{size}"
        await plan.section(name, partial(_measure_sizes, plan, model))
        name = f"bindings and runs under way, LSTM-{size}"
        await plan.section(name, partial(_measure_bindings, plan, model))
    name = "ragged runs with and without buckets"
    await plan.section(name, partial(_measure_ragged, plan, first))
    await plan.section("out of memory", partial(_run_out_of_memory, plan, last))


def raw_rate(plan: Plan, hidden_size: int) -> float:
    """Return series a second of ONNX Runtime's plain ``run`` at the rows of a large request."""
    engine = load_engine(lstm_model(hidden_size, has_lengths=True), plan.device)
    inputs = make_inputs(plan.scale.rows, STEPS)
    times = _time_runs(lambda: engine.session.run(OUTPUTS, inputs), 2 * plan.scale.run_s)
    return plan.scale.rows / float(np.median(times))


def difference(got: Tensors, want: Tensors) -> float:
    """Return the largest difference of any number, relative to it where it is beyond 1."""
    return max(
        float((np.abs(got[name] - array) / np.maximum(1, np.abs(array))).max())
        for name, array in want.items()
    )


async def _check_parity(plan: Plan, models: dict[int, bytes], rows: list[Row]) -> None:
    for size, model in models.items():
        cpu, device = load_engine(model, "cpu"), load_engine(model, plan.device)
        bound = load_engine(model, plan.device)
        bound.bind(Bindings(bound.session))
        inputs = make_inputs(min(256, plan.scale.rows), plan.scale.max_length, is_ragged=True)
        want = cpu.run(inputs, OUTPUTS)
        for name, engine in (("run", device), ("bound run", bound)):
            found = difference(engine.run(inputs, OUTPUTS), want)
            show(rows, {"model": f"LSTM-{size}", "by": name, **_judge(found)})
    cpu, device = (load_engine(STARTER.read_bytes(), one) for one in ("cpu", plan.device))
    history = 100 + 20 * np.random.default_rng(0).normal(size=(64, 48)).astype(np.float32)
    lengths = np.arange(64, dtype=np.int32) % 48 + 1
    lengths[0] = 48
    inputs = {"past_target": history, "sequence_lens": lengths}
    found = difference(device.run(inputs, ["quantiles"]), cpu.run(inputs, ["quantiles"]))
    show(rows, {"model": "starter", "by": "run", **_judge(found)})


def _judge(found: float) -> Row:
    return {"difference": found, "within": found <= PARITY}


async def _count_kernels(plan: Plan, model: bytes, rows: list[Row]) -> None:
    """Count the kernels of a run by the provider that they ran on."""
    providers = ["CPUExecutionProvider"]
    if plan.device == "cuda":
        providers.insert(0, "CUDAExecutionProvider")
    for name, content in (("LSTM", model), ("starter", STARTER.read_bytes())):
        interface = load_engine(content, "cpu").interface
        inputs = make_inputs(4, 12) if name == "LSTM" else _starter_inputs(interface)
        nodes = _profile(content, providers, inputs)
        by_provider = Counter(node["provider"] for node in nodes)
        on_cpu = {node["op_name"] for node in nodes if node["provider"].startswith("CPU")}
        show(rows, {"model": name, **by_provider, "on the CPU": " ".join(sorted(on_cpu))})


def _profile(model: bytes, providers: list[str], inputs: Tensors) -> list[dict[str, str]]:
    """Return the arguments of each kernel of one run."""
    options = ort.SessionOptions()
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "run")
        session = ort.InferenceSession(model, options, providers=providers)
        session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text())
    return [event["args"] for event in events if event.get("args", {}).get("provider")]


def _starter_inputs(interface: Interface) -> Tensors:
    inputs = {"past_target": np.ones((4, 12), np.float32), "sequence_lens": np.full(4, 12, "i4")}
    return interface.initial_states(4) | inputs


async def _measure_sizes(plan: Plan, model: bytes, rows: list[Row]) -> None:
    engine = load_engine(model, plan.device)
    for size in plan.scale.batch_sizes:
        if plan.is_over:
            return
        inputs = make_inputs(size, STEPS)
        times = _time_runs(partial(engine.session.run, OUTPUTS, inputs), plan.scale.run_s)
        milliseconds = np.array(times) * 1000
        show(
            rows,
            {
                "rows": size,
                "p50 ms": float(np.percentile(milliseconds, 50)),
                "p99 ms": float(np.percentile(milliseconds, 99)),
                "series/s": size / float(np.median(times)),
                "runs": len(times),
                "used MiB": used_memory_mib(plan.device),
            },
        )


async def _measure_bindings(plan: Plan, model: bytes, rows: list[Row]) -> None:
    """Compare in turns, so that whatever else the machine does meets all of them."""
    plain, bound = load_engine(model, plan.device), load_engine(model, plan.device)
    bound.bind(Bindings(bound.session))
    for size in (1, 64, plan.scale.rows):
        if plan.is_over:
            return
        inputs = make_inputs(size, STEPS)
        row: Row = {"rows": size}
        for name, engine in (("plain", plain), ("bound", bound)):
            for num_threads in (1, 2):
                rate = size * _run_in_threads(engine, inputs, num_threads, plan.scale.run_s)
                row[f"{name}, {num_threads} under way, series/s"] = rate
        show(rows, row)


def _run_in_threads(engine: Engine, inputs: Tensors, num_threads: int, seconds: float) -> float:
    engine.run(inputs, OUTPUTS)

    def run_for(_: int) -> int:
        return len(_time_runs(lambda: engine.run(inputs, OUTPUTS), seconds))

    with ThreadPoolExecutor(num_threads) as threads:
        began = time.perf_counter()
        num_runs = sum(threads.map(run_for, range(num_threads)))
        return num_runs / (time.perf_counter() - began)


async def _measure_ragged(plan: Plan, model: bytes, rows: list[Row]) -> None:
    for has_buckets in (False, True):
        _measure_buckets(plan, model, rows, has_buckets=has_buckets)


def _measure_buckets(plan: Plan, model: bytes, rows: list[Row], *, has_buckets: bool) -> None:
    before = used_memory_mib(plan.device)
    engine = load_engine(model, plan.device)
    most = min(256, plan.scale.rows)
    limits = replace(LIMITS, max_batch_size=most, has_buckets=has_buckets)
    began = time.perf_counter()
    warm_up(engine, limits, budget_s=2.0)
    warmed_s = time.perf_counter() - began
    buckets = Buckets(engine.interface, most)
    random = np.random.default_rng(3)
    sizes = [
        (int(random.integers(1, most)), int(random.integers(8, plan.scale.max_length)))
        for _ in range(_NUM_RAGGED)
    ]
    for visit in ("first", "second"):
        times: list[float] = []
        for size in sizes:
            inputs = make_inputs(*size)
            began = time.perf_counter()
            if has_buckets:
                buckets.cut(engine.run(buckets.pad(inputs), OUTPUTS), inputs)
            else:
                engine.run(inputs, OUTPUTS)
            times.append(time.perf_counter() - began)
            if plan.is_over:
                return
        row = {"buckets": has_buckets, "visit": visit, "warmed up s": warmed_s}
        row |= {"mean ms": 1000 * float(np.mean(times)), "p99 ms": 1000 * _percentile(times, 99)}
        show(rows, row | {"added MiB": used_memory_mib(plan.device) - before})


def _percentile(values: Sequence[float], share: float) -> float:
    return float(np.percentile(values, share))


class _SmallDevice:
    """On a CPU: as if there were room for few rows, counting the runs of either kind."""

    def __init__(self, engine: OrtEngine, most_rows: int | None) -> None:
        self.interface = engine.interface
        self.runs: list[int] = []
        self.num_refused = 0
        self._engine = engine
        self._most_rows = most_rows

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        rows = self.interface.rows_of(inputs)
        try:
            results = self._run(rows, inputs, outputs)
        except OutOfMemoryError:
            self.num_refused += 1
            raise
        self.runs.append(rows)
        return results

    def _run(self, rows: int, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        if self._most_rows is not None and rows > self._most_rows:
            raise OutOfMemoryError("as if there were no more memory")
        return self._engine.run(inputs, outputs)


async def _run_out_of_memory(plan: Plan, model: bytes, rows: list[Row]) -> None:
    limit = _SMALL_LIMIT_MIB * 2**20 if plan.device == "cuda" else 0
    engine = load_engine(model, plan.device, gpu_mem_limit_bytes=limit)
    most = None if plan.device == "cuda" else plan.scale.rows // 3
    small = _SmallDevice(engine, most)
    inputs = make_inputs(plan.scale.rows, plan.scale.max_length, is_ragged=True)
    answers: list[Tensors | GatecastError] = []
    with ThreadPoolExecutor(1) as executor:
        async with DynamicBatcher(small, LIMITS, model_name="m", executor=executor) as batching:
            extent, terms = small.interface.extent_of(inputs), Terms(0.0, 1e12)
            batching.submit(PendingRequest(inputs, OUTPUTS, extent, terms, answer=answers.append))
            await batching.drain()
    (answer,) = answers
    row: Row = {"limit MiB": limit // 2**20, "refused runs": small.num_refused}
    if isinstance(answer, GatecastError):
        show(rows, row | {"answer": f"{type(answer).__name__}: {answer}"})
        return
    checked = slice(0, min(32, plan.scale.rows))
    part = {name: array[checked] for name, array in inputs.items()}
    want = load_engine(model, "cpu").run(part, OUTPUTS)
    found = difference({name: array[checked] for name, array in answer.items()}, want)
    show(rows, row | {"rows of the runs": str(small.runs), **_judge(found)})


def _time_runs(run: Callable[[], object], seconds: float) -> list[float]:
    """Return the seconds of each run, after two that do not count."""
    for _ in range(2):
        run()
    times: list[float] = []
    ends_at = time.perf_counter() + seconds
    while len(times) < _LEAST_RUNS or time.perf_counter() < ends_at:
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return times
