"""Loads broken and hostile model files: python -m benchmarks.hostile_models [number of bit flips].

Every file goes through the real Repository with its child process, as in a runner. Prints figures
and writes benchmarks/results/hostile_models.json.
"""

import json
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.artifact.directory import MODEL_FILE
from app.artifact.golden_case import relative_error
from app.artifact.seal import UNSEALED_DIGEST, check_seal, seal
from app.errors import ArtifactError, EngineError, ModelNotFoundError
from app.runner.engine import OrtEngine
from app.runner.repository import LoadedModel, Repository
from app.runner.vetting import Vetter
from app.tensors import Tensors
from benchmarks.environment import describe_environment
from benchmarks.vetting import make_vetter
from tests.hostile_models import hostile_files, sound_plain_files
from tests.plain_models import lstm_model
from tests.tiny_artifact import tiny_artifact

RESULTS = Path(__file__).parent / "results" / "hostile_models.json"
NUM_FLIPS = 1000
TOLERANCE = 1e-4
"""Of an answer of a damaged file that is as good as that of the sound one."""

DEATHS = "deaths of the process that loads"

Figures = dict[str, float | int | str]
Place = Callable[[Path, Path], None]
"""Puts something at the first path; the second is a sound model outside the repository."""

PLACES: dict[str, Place] = {
    "a folder": lambda path, _: path.mkdir(),
    "a FIFO": lambda path, _: os.mkfifo(path),
    "a device": lambda path, _: path.symlink_to("/dev/zero"),
    "a link to nothing": lambda path, _: path.symlink_to("nothing"),
    "a link to itself": lambda path, _: path.symlink_to(path.name),
    "a link to /etc/passwd": lambda path, _: path.symlink_to("/etc/passwd"),
    "a link to a model outside": lambda path, outside: path.symlink_to(outside),
    "the same, relative": lambda path, outside: path.symlink_to(
        os.path.relpath(outside, path.parent)
    ),
    "a file of 3 GiB": lambda path, _: make_large(path),
}


def make_large(path: Path) -> None:
    """Write a file of 3 GiB without a byte in it."""
    path.touch()
    os.truncate(path, 3 * 2**30)


@dataclass
class Tally:
    """What became of the files of one kind."""

    outcomes: Counter[str] = field(default_factory=Counter)
    deaths: Counter[str] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    longest_s: float = 0.0
    slowest: str = ""

    def figures(self) -> Figures:
        """Return the counts under readable names."""
        return {
            "files": self.outcomes.total(),
            **{outcome: count for outcome, count in self.outcomes.most_common() if count},
            "forks that the file ended": ", ".join(f"{n} {d}" for d, n in self.deaths.items()),
            "longest, s": round(self.longest_s, 2),
            "longest": self.slowest,
        }


class Bench:
    """A repository and what loads it, as in a runner."""

    def __init__(self, directory: Path, vetter: Vetter) -> None:
        self._directory = directory
        self._repository = Repository(directory, "cpu", read_model=vetter.read)
        self._number = 0

    def new_path(self) -> Path:
        """Return where the next file goes."""
        self._number += 1
        path = self._directory / f"m{self._number}" / "1" / MODEL_FILE
        path.parent.mkdir(parents=True)
        return path

    def load(self, path: Path, name: str, tally: Tally) -> OrtEngine | None:
        """Load one model and count what became of it."""
        started, loaded = time.monotonic(), None
        try:
            (loaded,) = self._repository.load(path.parent.parent.name).models
            outcome = classify(loaded)
        except ModelNotFoundError:
            outcome = "not taken for a version"
        duration_s = time.monotonic() - started
        if duration_s > tally.longest_s:
            tally.longest_s, tally.slowest = duration_s, name
        reason = loaded.reason if loaded else ""
        if ended := re.search(r"ended the process that tried it.*?(SIG\w+|status \d+)", reason):
            tally.deaths[ended[1]] += 1
        print(f"{duration_s:6.2f} s  {name}: {reason or outcome}")
        tally.outcomes[outcome] += 1
        return loaded.engine if loaded else None


def classify(loaded: LoadedModel) -> str:
    """Name what became of a file in a word or two."""
    if loaded.engine is not None:
        return "opened"
    return "golden-caught" if loaded.reason.startswith("golden case") else "refused"


def load_hostile(bench: Bench, artifact: bytes, outside: Path) -> Tally:
    """Load every hostile file and place there is."""
    tally = Tally()
    for name, model in hostile_files(artifact, str(outside)).items():
        path = bench.new_path()
        path.write_bytes(model)
        bench.load(path, name, tally)
        path.unlink()
    for name, put in PLACES.items():
        path = bench.new_path()
        put(path, outside)
        bench.load(path, name, tally)
    return tally


def load_sound(bench: Bench, artifact: bytes) -> Tally:
    """Load what looks odd and is sound."""
    tally = Tally()
    for name, model in ({"an artifact": artifact} | sound_plain_files()).items():
        path = bench.new_path()
        path.write_bytes(model)
        bench.load(path, name, tally)
    return tally


def flip_bits(model: bytes, num_flips: int) -> Iterable[tuple[str, bytes]]:
    """Flip one random bit at a time."""
    random = np.random.default_rng(0)
    for number, place in enumerate(random.integers(0, 8 * len(model), num_flips)):
        damaged = bytearray(model)
        damaged[place // 8] ^= 1 << place % 8
        yield f"flip {number} of bit {place}", bytes(damaged)


def load_flipped(bench: Bench, sound: bytes, flipped: Iterable[tuple[str, bytes]]) -> Tally:
    """Load damaged copies of a model, and compare the answers of those that are opened."""
    tally = Tally()
    engine = OrtEngine.from_bytes(sound, "cpu")
    inputs, output = question_to(engine)
    want = engine.run(inputs, [output])[output]
    for name, model in flipped:
        path = bench.new_path()
        path.write_bytes(model)
        opened = bench.load(path, name, tally)
        path.unlink()
        if opened is not None:
            tally.outcomes["opened"] -= 1
            tally.outcomes[compare(opened, inputs, output, want)] += 1
    return tally


def question_to(engine: OrtEngine) -> tuple[Tensors, str]:
    """Return inputs that are not the golden case's, and the output to look at."""
    random = np.random.default_rng(1)
    if engine.any_card is None:
        return {"X": random.standard_normal((9, 4, 3)).astype(np.float32)}, "Y"
    target = random.uniform(1, 9, (4, 40)).astype(np.float32)
    lengths = np.array([40, 30, 20, 10], np.int32)
    return {"past_target": target, "sequence_lens": lengths}, "quantiles"


def compare(engine: OrtEngine, inputs: Tensors, output: str, want: NDArray[Any]) -> str:
    """Name how the answers of a damaged model differ."""
    try:
        got = engine.run(inputs, [output])[output]
    except EngineError:
        return "opened, and refuses this question"
    is_same = got.shape == want.shape and relative_error(got, want) <= TOLERANCE
    return "opened, same answers" if is_same else "opened, other answers"


def resealed(artifact: bytes, flipped: Iterable[tuple[str, bytes]]) -> Iterable[tuple[str, bytes]]:
    """Seal damaged artifacts anew, as somebody who means it would; those that lost theirs stay."""
    digest = check_seal(artifact).encode()
    for name, model in flipped:
        try:
            yield name, seal(model.replace(digest, UNSEALED_DIGEST.encode()))
        except ArtifactError:
            yield name, model


def count_reads(canary: Path, work: Callable[[], Tally]) -> tuple[Tally, Figures]:
    """Tell by its time of access whether ``canary`` was read, and that a read would have shown."""
    long_ago = (0, canary.stat().st_mtime_ns)
    os.utime(canary, ns=long_ago)
    tally = work()
    reads = canary.stat().st_atime_ns != 0
    canary.read_bytes()
    shows = canary.stat().st_atime_ns != 0
    return tally, {"reads outside": int(reads), "a read would have shown": int(shows)}


def judge_hostile(directory: Path, artifact: bytes, _: int) -> Figures:
    """Load every hostile file and place, beside a model outside the repository."""
    outside = directory / "outside" / MODEL_FILE
    outside.parent.mkdir()
    outside.write_bytes(artifact)
    with make_vetter(directory / "models") as vetter:
        bench = Bench(directory / "models", vetter)
        tally, reads = count_reads(outside, lambda: load_hostile(bench, artifact, outside))
    return tally.figures() | reads


def judge_sound(directory: Path, artifact: bytes, _: int) -> Figures:
    """Load what looks odd and is sound."""
    with make_vetter(directory) as vetter:
        return load_sound(Bench(directory, vetter), artifact).figures()


def judge_flipped(directory: Path, artifact: bytes, num_flips: int) -> Figures:
    """Load damaged artifacts."""
    with make_vetter(directory) as vetter:
        flipped = flip_bits(artifact, num_flips)
        return load_flipped(Bench(directory, vetter), artifact, flipped).figures()


def judge_resealed(directory: Path, artifact: bytes, num_flips: int) -> Figures:
    """Load damaged artifacts with a seal that fits."""
    with make_vetter(directory) as vetter:
        flipped = resealed(artifact, flip_bits(artifact, num_flips))
        return load_flipped(Bench(directory, vetter), artifact, flipped).figures()


def judge_plain(directory: Path, _: bytes, num_flips: int) -> Figures:
    """Load damaged files that have neither seal nor golden case."""
    plain = lstm_model(has_lengths=False, has_states=False)
    with make_vetter(directory) as vetter:
        flipped = flip_bits(plain, num_flips)
        return load_flipped(Bench(directory, vetter), plain, flipped).figures()


KINDS: dict[str, Callable[[Path, bytes, int], Figures]] = {
    "hostile and broken files": judge_hostile,
    "odd and sound files": judge_sound,
    "bit flips of an artifact": judge_flipped,
    "bit flips, sealed anew": judge_resealed,
    "bit flips of a plain LSTM": judge_plain,
}


def measure_kind(kind: str, num_flips: int) -> Figures:
    """Load all files of a kind in a process of its own, and tell whether it is still there."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                figures = pool.submit(
                    KINDS[kind], Path(folder), tiny_artifact(), num_flips
                ).result()
        except BrokenProcessPool:
            return {DEATHS: 1}
    return figures | {DEATHS: 0}


def main() -> None:
    """Measure, print and write."""
    num_flips = int(sys.argv[1]) if len(sys.argv) > 1 else NUM_FLIPS
    figures = {kind: measure_kind(kind, num_flips) for kind in KINDS}
    text = json.dumps({"environment": describe_environment(), **figures}, indent=2)
    print(text)
    RESULTS.write_text(text + "\n")


if __name__ == "__main__":
    main()
