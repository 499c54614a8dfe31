from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.artifact.directory import find_versions
from app.errors import ArtifactError, InvalidInputError
from export.figures import Figure, Verification
from export.publish import publish
from export.verify import verify
from models.checkpoint import Checkpoint
from tests.export.exported import Exported
from tests.tiny_artifact import tiny_checkpoint


@pytest.fixture(scope="module")
def other_weights() -> Checkpoint:
    other = tiny_checkpoint()
    other.network.get_parameter("members.0.head.hidden.weight").data.mul_(1.01)
    return other


def test_first_version_is_one(
    exported: Exported, verification: Verification, tmp_path: Path
) -> None:
    file = publish(exported.model, verification, model_name="m3", model_repository=tmp_path)

    assert file == tmp_path / "m3" / "1" / "model.onnx"
    assert file.read_bytes() == exported.model


def test_next_version_follows_the_newest(
    exported: Exported, verification: Verification, tmp_path: Path
) -> None:
    (tmp_path / "m3" / "41").mkdir(parents=True)
    (tmp_path / "m3" / "notes").mkdir()

    file = publish(exported.model, verification, model_name="m3", model_repository=tmp_path)

    assert file.parent.name == "42"


def test_concurrent_exports_get_versions_of_their_own(
    exported: Exported, verification: Verification, tmp_path: Path
) -> None:
    def export(_: int) -> Path:
        return publish(exported.model, verification, model_name="m3", model_repository=tmp_path)

    with ThreadPoolExecutor(8) as pool:
        files = set(pool.map(export, range(24)))

    assert len(files) == 24
    assert find_versions(tmp_path / "m3") == list(range(1, 25))


def test_nothing_staged_stays_behind(
    exported: Exported, verification: Verification, tmp_path: Path
) -> None:
    publish(exported.model, verification, model_name="m3", model_repository=tmp_path)

    assert [entry.name for entry in (tmp_path / "m3").iterdir()] == ["1"]


def test_model_that_differs_from_its_network_is_refused(
    exported: Exported, other_weights: Checkpoint, tmp_path: Path
) -> None:
    failed = verify(exported.model, other_weights)

    with pytest.raises(ArtifactError, match="refusing to publish: forecasts against PyTorch"):
        publish(exported.model, failed, model_name="m3", model_repository=tmp_path)

    assert not list(tmp_path.iterdir())


def test_verification_of_another_file_is_refused(exported: Exported, tmp_path: Path) -> None:
    foreign = Verification("0" * 64, (Figure("nodes", 1),))

    with pytest.raises(ArtifactError, match="of another file"):
        publish(exported.model, foreign, model_name="m3", model_repository=tmp_path)


@pytest.mark.parametrize("model_name", ["", "..", "a/b", ".hidden", "a" * 129])
def test_names_that_leave_the_repository_are_refused(
    exported: Exported, verification: Verification, tmp_path: Path, model_name: str
) -> None:
    with pytest.raises(InvalidInputError):
        publish(exported.model, verification, model_name=model_name, model_repository=tmp_path)


def test_file_in_the_place_of_the_model_is_left_alone(
    exported: Exported, verification: Verification, tmp_path: Path
) -> None:
    (tmp_path / "m3").write_text("a file where the directory should be")

    with pytest.raises(FileExistsError):
        publish(exported.model, verification, model_name="m3", model_repository=tmp_path)
