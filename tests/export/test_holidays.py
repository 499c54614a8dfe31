"""A model that needs holidays is served with the version of their package that it learned from."""

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import onnx
import pytest

from app.artifact.directory import MODEL_FILE
from app.artifact.metadata import to_metadata
from app.artifact.seal import seal
from app.errors import ArtifactError
from app.holiday_calendar import HolidayCalendar
from app.runner.engine import OrtEngine
from app.runner.loading import load_engine
from app.runner.vetting import Vetter
from export.graph import to_bytes
from tests.tiny_artifact import tiny_artifact

TIMEOUT_S = 60.0
"""Of vetting; longer than a busy machine makes of it."""


def model_with_holidays(package_version: str) -> bytes:
    """Return a model that says it needs holidays of that version of their package."""
    model = tiny_artifact()
    engine = OrtEngine.from_bytes(model, "cpu")
    holidays = HolidayCalendar(country="DE", package_version=package_version)
    card = engine.card.model_copy(update={"holidays": holidays})
    graph = onnx.load_from_string(model)
    onnx.helper.set_model_props(graph, to_metadata(card, engine.golden_case))
    return seal(to_bytes(graph))


def test_holidays_of_the_same_version_are_served() -> None:
    model = model_with_holidays(version("holidays"))
    assert load_engine(model, "cpu").card.holidays is not None


def test_holidays_of_another_version_are_refused_at_load() -> None:
    model = model_with_holidays("0.1")
    with pytest.raises(ArtifactError, match=r"needs the holidays of DE from .* holidays 0\.1"):
        load_engine(model, "cpu")


def test_artifacts_older_than_the_new_fields_still_load() -> None:
    starter = Path(__file__).parents[2] / "model_repository" / "monthly" / "1" / "model.onnx"
    card = load_engine(starter.read_bytes(), "cpu").card
    assert (card.static_categories, card.calendar_features, card.holidays) == ({}, (), None)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "shop" / "1" / MODEL_FILE
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture
def vetter(tmp_path: Path) -> Iterator[Vetter]:
    memory = tmp_path / "vetted"
    with Vetter(tmp_path, max_bytes=2**28, timeout_s=TIMEOUT_S, memory=memory) as vetter:
        yield vetter


def test_vetting_needs_no_file_to_know_the_installed_holidays(vetter: Vetter, file: Path) -> None:
    file.write_bytes(model_with_holidays(version("holidays")))
    assert vetter.read(file) == file.read_bytes()


def test_vetting_says_which_holidays_are_missing(vetter: Vetter, file: Path) -> None:
    file.write_bytes(model_with_holidays("0.1"))
    with pytest.raises(ArtifactError, match="needs the holidays of DE"):
        vetter.read(file)
