from pathlib import Path

import pytest
from click.testing import CliRunner

from app.errors import ArtifactError, InvalidInputError
from export.commands import export, verify
from models.checkpoint import save_checkpoint
from tests.export.exported import Exported
from tests.tiny_artifact import tiny_checkpoint


@pytest.fixture
def model_file(exported: Exported, tmp_path: Path) -> Path:
    file = tmp_path / "model.onnx"
    file.write_bytes(exported.model)
    return file


def test_export_publishes_what_it_verified(
    exported: Exported, checkpoint_directory: Path, tmp_path: Path
) -> None:
    arguments = [str(checkpoint_directory), "--name", "tiny", "--model-repository", str(tmp_path)]

    result = CliRunner().invoke(export, arguments, catch_exceptions=False)

    assert result.exit_code == 0
    assert (tmp_path / "tiny" / "1" / "model.onnx").read_bytes() == exported.model
    assert "carried state" in result.output


def test_export_of_an_empty_directory_says_so(tmp_path: Path) -> None:
    result = CliRunner().invoke(export, [str(tmp_path), "--name", "tiny"])

    assert isinstance(result.exception, InvalidInputError)
    assert "no checkpoint" in str(result.exception)


def test_export_refuses_a_bad_name_before_it_works(checkpoint_directory: Path) -> None:
    result = CliRunner().invoke(export, [str(checkpoint_directory), "--name", "../elsewhere"])

    assert isinstance(result.exception, InvalidInputError)


def test_verify_accepts_a_sound_file(model_file: Path) -> None:
    result = CliRunner().invoke(verify, [str(model_file)])

    assert result.exit_code == 0
    assert "golden case" in result.output


def test_verify_accepts_the_directory_of_a_version(
    model_file: Path, checkpoint_directory: Path
) -> None:
    arguments = [str(model_file.parent), "--checkpoint", str(checkpoint_directory)]

    result = CliRunner().invoke(verify, arguments)

    assert result.exit_code == 0
    assert "states against PyTorch" in result.output


def test_verify_fails_beside_the_wrong_checkpoint(model_file: Path, tmp_path: Path) -> None:
    other = tiny_checkpoint()
    other.network.get_parameter("members.0.head.hidden.weight").data.mul_(1.01)
    save_checkpoint(other, tmp_path / "other")

    result = CliRunner().invoke(verify, [str(model_file), "--checkpoint", str(tmp_path / "other")])

    assert result.exit_code == 1
    assert "FAILED" in result.output


def test_verify_refuses_a_damaged_file(model_file: Path) -> None:
    model_file.write_bytes(model_file.read_bytes()[:-1])

    result = CliRunner().invoke(verify, [str(model_file)])

    assert isinstance(result.exception, ArtifactError)


def test_verify_of_a_directory_without_a_model_says_so(tmp_path: Path) -> None:
    result = CliRunner().invoke(verify, [str(tmp_path)])

    assert isinstance(result.exception, ArtifactError)
    assert "can not read" in str(result.exception)
