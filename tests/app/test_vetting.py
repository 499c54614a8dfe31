"""A real child process that tries model files, some of which end it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.artifact.directory import MODEL_FILE
from app.errors import ArtifactError
from app.runner.repository import Repository
from app.runner.vetting import Vetter
from app.runner.vetting_process import VettingProcess
from tests.hostile_models import aborting, hostile_files, looping, sound_plain_files, to_bytes
from tests.tiny_artifact import tiny_artifact

TIMEOUT_S = 60.0
"""Much longer than any of these files takes, and longer than a busy machine makes of it."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def vetter(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vetter]:
    memory = tmp_path_factory.mktemp("memory") / "vetted"
    with new_vetter(root, memory) as vetter:
        yield vetter


@pytest.fixture(scope="module")
def hostile() -> dict[str, bytes]:
    return hostile_files(tiny_artifact(), outside="/outside")


def new_vetter(
    root: Path,
    memory: Path,
    timeout_s: float = TIMEOUT_S,
    process: VettingProcess | None = None,
) -> Vetter:
    return Vetter(root, max_bytes=2**28, timeout_s=timeout_s, memory=memory, process=process)


def write(root: Path, model: bytes, version: int = 1, name: str = "tiny") -> Path:
    path = root / name / str(version) / MODEL_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model)
    return path


@pytest.mark.parametrize("name", ["an LSTM", "text", "a function"])
def test_sound_plain_files_pass(vetter: Vetter, root: Path, name: str) -> None:
    model = sound_plain_files()[name]
    assert vetter.read(write(root, model)) == model


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a script", "not an ONNX file"),
        ("half an artifact", "cut off"),
        ("an artifact twice", "exactly one digest"),
        ("numbers in /etc/passwd", "another file"),
        ("a foreign operator in a function", "org.example::Tokenize"),
        ("another format in an ONNX file", "IR version|Missing opset|opset"),
        ("an LSTM on no rows", r"ended the process that tried it \(SIGABRT\)"),
        ("a tensor of 3 GiB", "more memory"),
        ("memory that grows with every step", "more memory"),
        ("an LSTM with too few weights", "Input W must have shape"),
        ("nodes in a circle", "acyclic"),
        ("weights that are no numbers", "golden case"),
        ("a card of 100,000 brackets", "recursion limit"),
        ("a golden case of negative shape", "misshapen"),
    ],
)
def test_hostile_files_are_refused(
    vetter: Vetter, root: Path, hostile: dict[str, bytes], name: str, reason: str
) -> None:
    with pytest.raises(ArtifactError, match=reason):
        vetter.read(write(root, hostile[name]))


def test_file_that_never_ends_is_given_up(root: Path, tmp_path: Path) -> None:
    with new_vetter(root, tmp_path / "m", timeout_s=0.5) as hasty:
        path = write(root, to_bytes(looping(2**62)))
        with pytest.raises(ArtifactError, match=r"takes longer than 0\.5 s"):
            hasty.read(path)


def test_refused_file_leaves_the_sound_version(vetter: Vetter, root: Path) -> None:
    write(root, sound_plain_files()["an LSTM"])
    write(root, to_bytes(aborting()), version=2)
    refused, served = Repository(root, "cpu", read_model=vetter.read).load("tiny").models
    assert (refused.model_version, refused.engine) == (2, None)
    assert "SIGABRT" in refused.reason
    assert served.model_version == 1
    assert served.engine is not None


def test_names_in_a_file_do_not_steer_the_terminal(vetter: Vetter, root: Path) -> None:
    model = sound_plain_files()["a function"].replace(b"Neg", b"\x1b[J")
    with pytest.raises(ArtifactError) as refusal:
        vetter.read(write(root, model))
    assert "\x1b" not in str(refusal.value)


def test_file_is_tried_once_in_the_life_of_a_service(root: Path, tmp_path: Path) -> None:
    path = write(root, sound_plain_files()["text"])
    with new_vetter(root, tmp_path / "m") as vetter:
        vetter.read(path)
    with new_vetter(root, tmp_path / "m", timeout_s=1e-6) as another:
        assert another.read(path) == path.read_bytes()
        path.write_bytes(sound_plain_files()["a loop"])
        with pytest.raises(ArtifactError, match="takes longer"):
            another.read(path)


def test_files_are_tried_ahead(tmp_path: Path) -> None:
    aborts = write(tmp_path, to_bytes(aborting()), name="aborts")
    sound = write(tmp_path, sound_plain_files()["text"], name="sound")
    (tmp_path / "sound" / "2").mkdir()
    with new_vetter(tmp_path, tmp_path / "m") as vetter:
        vetter.look_ahead()
        with pytest.raises(ArtifactError, match="SIGABRT"):
            vetter.read(aborts)
        assert vetter.read(sound) == sound.read_bytes()


@pytest.mark.parametrize("is_sound_first", [True, False])
def test_what_was_tried_ahead_counts_for_those_bytes_alone(
    tmp_path: Path, is_sound_first: bool
) -> None:
    models = [sound_plain_files()["a loop"], to_bytes(aborting())]
    before, after = models if is_sound_first else models[::-1]
    changing = write(tmp_path, before, name="changing")
    last = write(tmp_path, sound_plain_files()["text"], name="last")
    with new_vetter(tmp_path, tmp_path / "m") as vetter:
        vetter.look_ahead()
        vetter.read(last)  # so the other, which comes before it, was tried as well
        changing.write_bytes(after)
        if is_sound_first:
            with pytest.raises(ArtifactError, match="SIGABRT"):
                vetter.read(changing)
        else:
            assert vetter.read(changing) == after


def test_end_does_not_wait_for_files_that_are_tried(tmp_path: Path) -> None:
    path = write(tmp_path, to_bytes(looping(2**62)))
    with new_vetter(tmp_path, tmp_path / "m") as vetter:
        vetter.look_ahead()
    with pytest.raises(ArtifactError, match="is lost"):
        vetter.read(path)


def test_process_that_was_started_before_tries_files_and_ends_with_the_vetter(
    root: Path, tmp_path: Path
) -> None:
    others = children()
    process = VettingProcess()
    (child,) = children() - others
    with new_vetter(root, tmp_path / "m", process=process) as vetter:
        vetter.read(write(root, sound_plain_files()["text"]))
        assert children() - others == {child}
    assert children() == others


def test_lost_child_is_replaced(root: Path, tmp_path: Path) -> None:
    others = children()
    with new_vetter(root, tmp_path / "m") as vetter:
        vetter.read(write(root, sound_plain_files()["text"]))
        (child,) = children() - others
        os.kill(child, signal.SIGKILL)
        vetter.read(write(root, sound_plain_files()["a loop"]))
        (another,) = children() - others
        assert another != child
    assert children() <= others


def test_nothing_is_tried_after_the_end(root: Path, tmp_path: Path) -> None:
    with new_vetter(root, tmp_path / "m") as vetter:
        path = write(root, sound_plain_files()["text"])
    with pytest.raises(ArtifactError, match="is lost"):
        vetter.read(path)


def children() -> set[int]:
    """Process ids of the children of this process, whichever thread began them."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {int(pid) for listing in tasks for pid in listing.read_text().split()}
