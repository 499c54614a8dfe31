"""A shelf of real models: what is served, replaced and remembered."""

import json
import shutil
import weakref
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from app.artifact import MODEL_FILE
from app.errors import ModelNotFoundError, ModelRefusedError, StartupError
from app.runner.batcher import DynamicBatcher
from app.runner.engine import Engine
from app.runner.polling import Poller
from app.runner.queue import BatchLimits
from app.runner.repository import Repository
from app.runner.shelf import ModelShelf, load_first
from tests.tiny_artifact import tiny_artifact
from tests.waiting import until

LIMITS = BatchLimits(8, 4096, 0.5, 0.25, 100_000, 0.0)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    directory = tmp_path / "models"
    write(directory, 1)
    return directory


@pytest.fixture
def repository(models: Path) -> Repository:
    return Repository(models, "cpu")


@pytest_asyncio.fixture
async def shelf(repository: Repository, tmp_path: Path) -> AsyncIterator[ModelShelf]:
    memory = tmp_path / "memory"
    async with ModelShelf(repository, _batcher, memory=memory, retire_after_s=0.05) as shelf:
        await shelf.put(repository.load("tiny"))
        yield shelf


def _batcher(name: str, version: int, engine: Engine) -> DynamicBatcher:
    return DynamicBatcher(engine, LIMITS, model_name=name, model_version=version)


def write(directory: Path, version: int, model: bytes | None = None, name: str = "tiny") -> Path:
    path = directory / name / str(version) / MODEL_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tiny_artifact() if model is None else model)
    return path


def served(shelf: ModelShelf) -> list[tuple[str, int]]:
    return [(m.model_name, m.model_version) for m in shelf.models() if m.engine is not None]


async def test_newest_version_is_served_alone(shelf: ModelShelf, models: Path) -> None:
    write(models, 2)
    await shelf.load("tiny")
    assert served(shelf) == [("tiny", 2)]


async def test_same_file_is_left_as_it_is(shelf: ModelShelf) -> None:
    before = shelf.find("tiny", 1)
    await shelf.load("tiny")
    assert shelf.find("tiny", 1) is before
    assert [model.engine for model in shelf.models()] == [before.engine]


async def test_other_file_under_the_same_number_takes_its_place(
    shelf: ModelShelf, models: Path
) -> None:
    before = shelf.find("tiny", 1)
    write(models, 1, tiny_artifact(context_length=512, hidden_size=6))
    await shelf.load("tiny")
    assert shelf.find("tiny", 1).engine.digest != before.engine.digest
    await until(lambda: len(list(shelf.batchers())) == 1)
    assert shelf.find("tiny", 1) is not before


async def test_replaced_model_is_freed(shelf: ModelShelf, models: Path) -> None:
    engine = weakref.ref(shelf.find("tiny", 1).engine)
    write(models, 2)
    await shelf.load("tiny")
    await until(lambda: engine() is None)


async def test_refused_version_is_listed_beside_the_one_that_serves(
    shelf: ModelShelf, models: Path
) -> None:
    write(models, 2, b"no model")
    with pytest.raises(ModelRefusedError):
        await shelf.load("tiny")
    assert served(shelf) == [("tiny", 1)]
    assert [m.reason != "" for m in shelf.models()] == [True, False]
    assert shelf.models()[-1].engine is shelf.find("tiny", 1).engine


async def test_shelf_goes_on_when_every_file_of_a_model_is_broken(
    shelf: ModelShelf, models: Path
) -> None:
    write(models, 1, b"no model")
    with pytest.raises(ModelRefusedError):
        await shelf.load("tiny")
    assert served(shelf) == [("tiny", 1)]


async def test_changes_are_told_and_remembered(
    shelf: ModelShelf, models: Path, tmp_path: Path
) -> None:
    told: list[list[tuple[str, int]]] = []
    shelf.changed = lambda: told.append(served(shelf))
    write(models, 3)
    await shelf.load("tiny")
    assert json.loads((tmp_path / "memory").read_bytes()) == {"tiny": 3}
    await shelf.unload("tiny")
    assert json.loads((tmp_path / "memory").read_bytes()) == {}
    assert told == [[("tiny", 3)], []]


async def test_unknown_model_can_not_be_unloaded(shelf: ModelShelf) -> None:
    with pytest.raises(ModelNotFoundError):
        await shelf.unload("nobody")


def test_first_runner_loads_everything(
    repository: Repository, models: Path, tmp_path: Path
) -> None:
    write(models, 4, name="other")
    loaded = load_first(repository, tmp_path / "none")
    assert [versions[-1].model_name for versions in loaded] == ["other", "tiny"]


def test_replacement_loads_what_the_lost_runner_served(
    repository: Repository, models: Path, tmp_path: Path
) -> None:
    write(models, 2)
    write(models, 1, name="unloaded")
    memory = tmp_path / "memory"
    memory.write_text('{"tiny": 1, "deleted": 3}')
    ((model,),) = load_first(repository, memory)
    assert (model.model_name, model.model_version) == ("tiny", 1)


def test_missing_repository_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="model repository"):
        load_first(Repository(tmp_path / "none", "cpu"), tmp_path / "memory")


async def test_poller_waits_until_a_file_has_settled(
    shelf: ModelShelf, repository: Repository, models: Path
) -> None:
    poller = Poller(repository, shelf)
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
    poller, changes = Poller(repository, shelf), []
    shelf.changed = lambda: changes.append(1)
    write(models, 2, b"no model")
    for _ in range(5):
        await poller.step()
    assert len(changes) == 1


async def test_poller_follows_models_that_come_and_go(
    shelf: ModelShelf, repository: Repository, models: Path
) -> None:
    poller = Poller(repository, shelf)
    write(models, 1, name="new")
    shutil.rmtree(models / "tiny")
    for _ in range(2):
        await poller.step()
    assert served(shelf) == [("new", 1)]


async def test_poller_keeps_the_models_when_the_folder_is_gone(
    shelf: ModelShelf, repository: Repository, models: Path
) -> None:
    poller = Poller(repository, shelf)
    shutil.rmtree(models)
    for _ in range(3):
        await poller.step()
    assert served(shelf) == [("tiny", 1)]
