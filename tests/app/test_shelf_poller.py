"""What a shelf learns from its folder: files that come, change and go."""

import shutil
from pathlib import Path

import pytest

from app.runner.polling import Poller, recall_stamps
from app.runner.repository import Repository
from app.runner.shelf import ModelShelf
from tests.app.shelves import configure, make_unreadable, served, write
from tests.tiny_artifact import tiny_artifact


def new_poller(repository: Repository, shelf: ModelShelf, memory: Path) -> Poller:
    """The poller of a runner that begins, in place of one that was lost if there is a memory."""
    return Poller(repository, shelf, memory=memory, settled=recall_stamps(repository, memory))


async def test_poller_waits_until_a_file_has_settled(
    shelf: ModelShelf, repository: Repository, models: Path
) -> None:
    poller = new_poller(repository, shelf, models / "polled")
    write(models, 2, tiny_artifact()[:1000])
    await poller.step()
    write(models, 2)
    await poller.step()
    assert served(shelf) == [("tiny", 1)]
    assert [m.reason for m in shelf.models()] == [""]
    await poller.step()
    assert served(shelf) == [("tiny", 2)]


async def test_poller_tries_a_broken_file_once(
    shelf: ModelShelf, repository: Repository, models: Path
) -> None:
    poller, changes = new_poller(repository, shelf, models / "polled"), []
    shelf.changed = lambda: changes.append(1)
    write(models, 2, b"no model")
    for _ in range(5):
        await poller.step()
    assert len(changes) == 1


async def test_replacement_sees_what_was_published_while_no_runner_was_there(
    shelf: ModelShelf, repository: Repository, models: Path
) -> None:
    new_poller(repository, shelf, models / "polled")
    write(models, 2)
    write(models, 1, name="new")
    replacement = new_poller(repository, shelf, models / "polled")
    for _ in range(2):
        await replacement.step()
    assert served(shelf) == [("tiny", 2), ("new", 1)]


async def test_replacement_does_not_try_again_what_was_tried(
    shelf: ModelShelf, repository: Repository, models: Path
) -> None:
    poller, changes = new_poller(repository, shelf, models / "polled"), []
    write(models, 2, b"no model")
    for _ in range(2):
        await poller.step()
    replacement = new_poller(repository, shelf, models / "polled")
    shelf.changed = lambda: changes.append(1)
    for _ in range(3):
        await replacement.step()
    assert changes == []


async def test_model_that_went_while_no_runner_was_there_is_no_news(
    shelf: ModelShelf, repository: Repository, models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(models, 1, name="gone")
    new_poller(repository, shelf, models / "polled")
    shutil.rmtree(models / "gone")
    replacement = new_poller(repository, shelf, models / "polled")
    for _ in range(2):
        await replacement.step()
    assert served(shelf) == [("tiny", 1)]
    assert not caplog.records


async def test_poller_follows_models_that_come_and_go(
    shelf: ModelShelf, repository: Repository, models: Path
) -> None:
    poller = new_poller(repository, shelf, models / "polled")
    write(models, 1, name="new")
    shutil.rmtree(models / "tiny")
    for _ in range(2):
        await poller.step()
    assert served(shelf) == [("new", 1)]


async def test_poller_keeps_the_models_when_the_folder_is_gone(
    shelf: ModelShelf, repository: Repository, models: Path
) -> None:
    poller = new_poller(repository, shelf, models / "polled")
    shutil.rmtree(models)
    for _ in range(3):
        await poller.step()
    assert served(shelf) == [("tiny", 1)]


async def test_model_whose_folder_can_not_be_read_goes_on_beside_the_others(
    shelf: ModelShelf, repository: Repository, models: Path, tmp_path: Path
) -> None:
    poller = new_poller(repository, shelf, models / "polled")
    (models / "tiny").rename(tmp_path / "tiny")
    make_unreadable(models / "tiny")
    write(models, 1, name="new")
    for _ in range(3):
        await poller.step()
    assert served(shelf) == [("tiny", 1), ("new", 1)]
    (models / "tiny").unlink()
    (tmp_path / "tiny").rename(models / "tiny")
    write(models, 2)
    for _ in range(2):
        await poller.step()
    assert sorted(served(shelf)) == [("new", 1), ("tiny", 2)]


async def test_poller_notices_a_config_that_changes(
    shelf: ModelShelf, repository: Repository, models: Path
) -> None:
    write(models, 2)
    poller = new_poller(repository, shelf, models / "polled")
    configure(models, "versions = {all = true}")
    for _ in range(2):
        await poller.step()
    assert served(shelf) == [("tiny", 1), ("tiny", 2)]
    (models / "tiny" / "config.toml").unlink()
    for _ in range(2):
        await poller.step()
    assert served(shelf) == [("tiny", 2)]


def test_runner_begins_where_it_can_write_nothing_down(
    repository: Repository, models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = recall_stamps(repository, models.parent / "away" / "polled")
    assert list(found) == ["tiny"]
    assert len(caplog.records) == 1


async def test_poller_waits_while_it_can_write_nothing_down(
    shelf: ModelShelf, repository: Repository, models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    memory = models.parent / "away" / "polled"
    poller = Poller(repository, shelf, memory=memory, settled=repository.stamps())
    write(models, 2)
    for _ in range(4):
        await poller.step()
    assert served(shelf) == [("tiny", 1)]
    assert len(caplog.records) == 1
    memory.parent.mkdir()
    await poller.step()
    assert served(shelf) == [("tiny", 2)]
