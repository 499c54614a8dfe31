"""Labels of the versions on a shelf."""

from pathlib import Path

import pytest

from app.errors import (
    InvalidInputError,
    ModelNotFoundError,
    ModelRefusedError,
)
from app.model_config import LabelChange
from app.runner.memory import load_first
from app.runner.repository import Repository
from app.runner.shelf import ModelShelf
from tests.app.shelves import configure, served, write


async def test_label_brings_its_version_and_nothing_else(shelf: ModelShelf, models: Path) -> None:
    write(models, 2)
    write(models, 3)
    write(models, 1, b"another file, which nobody loaded")
    before = shelf.find("tiny", 1)
    await shelf.label("tiny", LabelChange("canary", 2, 0.1))
    assert served(shelf) == [("tiny", 1), ("tiny", 2)]
    assert shelf.find("tiny", 1) is before


async def test_version_goes_with_the_label_that_gave_it_its_share(
    shelf: ModelShelf, models: Path
) -> None:
    write(models, 2)
    write(models, 3)
    await shelf.label("tiny", LabelChange("canary", 2, 0.1))
    await shelf.label("tiny", LabelChange("canary", 3))
    assert served(shelf) == [("tiny", 1), ("tiny", 3)]
    await shelf.label("tiny", LabelChange("canary", None))
    assert served(shelf) == [("tiny", 1)]


async def test_only_version_stays_when_its_label_goes(shelf: ModelShelf) -> None:
    await shelf.label("tiny", LabelChange("canary", 1, 0.1))
    await shelf.label("tiny", LabelChange("canary", None))
    assert served(shelf) == [("tiny", 1)]


async def test_label_of_an_unsound_version_changes_nothing(shelf: ModelShelf, models: Path) -> None:
    write(models, 2, b"no model")
    for version in (2, 9):
        with pytest.raises(ModelRefusedError, match=f"version {version} is refused"):
            await shelf.label("tiny", LabelChange("stable", version))
    assert served(shelf) == [("tiny", 1)]
    assert shelf.listed()[0].config.labels == {}


async def test_new_version_gets_no_traffic_by_a_bare_label(shelf: ModelShelf, models: Path) -> None:
    write(models, 2)
    with pytest.raises(InvalidInputError, match="say which share"):
        await shelf.label("tiny", LabelChange("canary", 2))
    await shelf.label("tiny", LabelChange("stable", 2))
    assert ("tiny", 2) in served(shelf)


async def test_model_that_is_not_served_takes_no_label(shelf: ModelShelf) -> None:
    with pytest.raises(ModelNotFoundError):
        await shelf.label("nobody", LabelChange("stable", 1))


async def test_replacement_serves_labels_and_versions_of_the_lost_runner(
    shelf: ModelShelf, repository: Repository, models: Path, tmp_path: Path
) -> None:
    write(models, 2)
    await shelf.label("tiny", LabelChange("canary", 2, 0.1))
    write(models, 3)
    configure(models, "versions = {all = true}")
    (loaded,) = load_first(repository, tmp_path / "memory")
    assert [model.model_version for model in loaded.models] == [1, 2]
    assert loaded.config.labels == {"canary": 2}
    assert loaded.config.traffic == {"canary": 0.1}
