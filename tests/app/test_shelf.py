"""A shelf of real models: what is served, replaced and remembered."""

import json
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
from typing_extensions import override

from app.errors import ModelNotFoundError, ModelRefusedError, StartupError
from app.runner.batcher import DynamicBatcher
from app.runner.engine import Engine
from app.runner.memory import load_first
from app.runner.queue import BatchLimits
from app.runner.repository import Repository
from app.runner.shelf import ModelShelf
from tests.app.shelves import limits_of, make_batcher, make_unreadable, served, write
from tests.tiny_artifact import tiny_artifact
from tests.waiting import until


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
    assert json.loads((tmp_path / "memory").read_bytes()) == {
        "tiny": {"versions": [3], "config": {}}
    }
    await shelf.unload("tiny")
    assert json.loads((tmp_path / "memory").read_bytes()) == {}
    assert told == [[("tiny", 3)], []]


async def test_change_that_can_not_be_remembered_is_told_all_the_same(
    repository: Repository, models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[list[tuple[str, int]]] = []
    memory = tmp_path / "away" / "memory"
    shelf = ModelShelf(
        repository, make_batcher, limits_of=limits_of, memory=memory, retire_after_s=0
    )
    shelf.changed = lambda: told.append(served(shelf))
    async with shelf:
        await shelf.put(repository.load("tiny"))
        write(models, 2)
        await shelf.load("tiny")
        assert told == [[("tiny", 1)], [("tiny", 2)]]
        assert len(caplog.records) == 1
        memory.parent.mkdir()
        await shelf.unload("tiny")
    assert told[-1] == []
    assert json.loads(memory.read_bytes()) == {}


class _ToldOfDrain(DynamicBatcher):
    """A batcher that calls ``draining`` when it begins to drain."""

    draining: Callable[[], None] = staticmethod(lambda: None)

    @override
    async def drain(self) -> None:
        self.draining()
        await super().drain()


def _make_told_of_drain(
    name: str, version: int, engine: Engine, limits: BatchLimits
) -> DynamicBatcher:
    return _ToldOfDrain(engine, limits, model_name=name, model_version=version)


async def test_version_that_was_replaced_twice_under_its_number_has_its_own_time(
    repository: Repository, models: Path, tmp_path: Path
) -> None:
    found: list[object] = []
    shelf = ModelShelf(
        repository,
        _make_told_of_drain,
        limits_of=limits_of,
        memory=tmp_path / "memory",
        retire_after_s=0.5,
    )
    async with shelf:
        await shelf.put(repository.load("tiny"))
        first = shelf.find("tiny", 1).batcher
        assert isinstance(first, _ToldOfDrain)
        first.draining = lambda: found.append(shelf.find("tiny", 1))
        write(models, 1, tiny_artifact(context_length=512, hidden_size=6))
        await shelf.load("tiny")
        second = shelf.find("tiny", 1)
        write(models, 2)
        await shelf.load("tiny")
        await until(lambda: bool(found))
    assert found == [second]


def test_folder_that_can_not_be_read_is_no_model_and_is_named_once(
    repository: Repository, models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_unreadable(models / "broken")
    assert [repository.names() for _ in range(2)] == [["tiny"], ["tiny"]]
    with pytest.raises(ModelNotFoundError):
        repository.load("broken")
    assert [record.getMessage()[:30] for record in caplog.records] == [
        "model broken can not be read: "
    ]


async def test_unknown_model_can_not_be_unloaded(shelf: ModelShelf) -> None:
    with pytest.raises(ModelNotFoundError):
        await shelf.unload("nobody")


def test_first_runner_loads_everything(
    repository: Repository, models: Path, tmp_path: Path
) -> None:
    write(models, 4, name="other")
    loaded = load_first(repository, tmp_path / "none")
    assert [versions.model_name for versions in loaded] == ["other", "tiny"]


def test_replacement_loads_what_the_lost_runner_served(
    repository: Repository, models: Path, tmp_path: Path
) -> None:
    write(models, 2)
    write(models, 1, name="unloaded")
    memory = tmp_path / "memory"
    one, three = ({"versions": [version], "config": {}} for version in (1, 3))
    memory.write_text(json.dumps({"tiny": one, "deleted": three}))
    (loaded,) = load_first(repository, memory)
    (model,) = loaded.models
    assert (model.model_name, model.model_version) == ("tiny", 1)


def test_missing_repository_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="model repository"):
        load_first(Repository(tmp_path / "none", "cpu"), tmp_path / "memory")


def _lost_at_tiny(name: str, version: int, engine: Engine, limits: BatchLimits) -> DynamicBatcher:
    if name == "tiny":
        raise OSError("the runner is lost")
    return make_batcher(name, version, engine, limits)


async def test_what_is_served_is_remembered_once_the_beginning_is_complete(
    repository: Repository, models: Path, tmp_path: Path
) -> None:
    write(models, 1, name="other")
    memory = tmp_path / "begun"
    first, second = load_first(repository, memory)
    lost = ModelShelf(
        repository, _lost_at_tiny, limits_of=limits_of, memory=memory, retire_after_s=0
    )
    async with lost:
        with pytest.raises(OSError, match="lost"):
            await lost.put(first, second)
    assert [model.model_name for model in load_first(repository, memory)] == ["other", "tiny"]
