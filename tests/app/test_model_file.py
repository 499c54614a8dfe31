"""Which files of a repository are read at all."""

import os
from pathlib import Path

import pytest

from app.errors import ArtifactError
from app.runner.model_file import read_model_file

CONTENT = b"a model"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    version = tmp_path / "models" / "tiny" / "1"
    version.mkdir(parents=True)
    (version / "model.onnx").write_bytes(CONTENT)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "model.onnx").write_bytes(CONTENT)
    return tmp_path / "models"


def read(root: Path, path: str = "tiny/1/model.onnx", max_bytes: int = 100) -> bytes:
    return read_model_file(root / path, root=root, max_bytes=max_bytes)


def test_file_is_read(root: Path) -> None:
    assert read(root, max_bytes=len(CONTENT)) == CONTENT


def test_repository_itself_may_be_a_link(root: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(root)
    assert read(link) == CONTENT


def test_links_of_a_mounted_volume_are_followed(root: Path) -> None:
    data = root / "mounted" / "..2026"
    (data / "1").mkdir(parents=True)
    (data / "1" / "model.onnx").write_bytes(b"mounted")
    (root / "mounted" / "..data").symlink_to("..2026")
    (root / "mounted" / "1").symlink_to("..data/1")
    assert read(root, "mounted/1/model.onnx") == b"mounted"


@pytest.mark.parametrize("part", ["tiny", "tiny/2", "tiny/2/model.onnx"])
@pytest.mark.parametrize("is_absolute", [True, False], ids=["absolute", "relative"])
def test_link_out_of_the_repository_is_refused(root: Path, part: str, is_absolute: bool) -> None:
    link = root / "other" / part
    link.parent.mkdir(parents=True)
    target = {1: "outside", 2: "outside", 3: "outside/model.onnx"}[part.count("/") + 1]
    start = root.parent if is_absolute else Path(*[".."] * (2 + part.count("/")))
    link.symlink_to(start / target)
    (root.parent / "outside" / "2").symlink_to(root.parent / "outside")
    with pytest.raises(ArtifactError, match="out of the model repository"):
        read(root, "other/tiny/2/model.onnx")


def test_folder_of_like_name_is_outside(root: Path) -> None:
    (root.parent / "models-of-others").mkdir()
    (root.parent / "models-of-others" / "model.onnx").write_bytes(CONTENT)
    with pytest.raises(ArtifactError, match="out of the model repository"):
        read(root, "../models-of-others/model.onnx")


@pytest.mark.parametrize("kind", ["fifo", "directory", "nothing", "circle", "device", "file"])
def test_what_is_no_file_is_refused(root: Path, kind: str) -> None:
    path = root / "model.onnx"
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "circle":
            path.symlink_to(path.name)
        case "device":
            path.symlink_to("/dev/zero")
        case "file":
            path.symlink_to(root / "tiny" / "1" / "model.onnx" / "model.onnx")
    with pytest.raises(ArtifactError):
        read(root, "model.onnx")


def test_empty_file_is_refused(root: Path) -> None:
    (root / "model.onnx").touch()
    with pytest.raises(ArtifactError, match="empty"):
        read(root, "model.onnx")


def test_large_file_is_not_read(root: Path) -> None:
    with (root / "model.onnx").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ArtifactError, match="GATECAST_MAX_MODEL_BYTES allows 100"):
        read(root, "model.onnx")


def test_open_files_do_not_add_up(root: Path) -> None:
    (root / "empty.onnx").touch()
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for path in ("tiny/1/model.onnx", "empty.onnx", "none.onnx", "tiny/1"):
        for _ in range(5):
            try:
                read(root, path)
            except ArtifactError:
                continue
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
