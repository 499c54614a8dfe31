"""What the config of a model says is served, and on which GPU."""

from pathlib import Path

import pytest

from app.errors import (
    ConfigError,
    ModelNotFoundError,
    ModelRefusedError,
)
from app.model_config import LabelChange
from app.runner.memory import load_first
from app.runner.place import Gpu
from app.runner.repository import Repository
from app.runner.shelf import ModelShelf
from tests.app.shelves import configure, limits_of, make_batcher, pending, served, write
from tests.e2e.gpu_runner import load_as_on_cuda
from tests.waiting import until


@pytest.mark.parametrize(
    ("content", "versions"),
    [
        ("", [4]),
        ("versions = {latest = 2}", [3, 4]),
        ("versions = {latest = 9}", [1, 2, 3, 4]),
        ("versions = {all = true}", [1, 2, 3, 4]),
        ("versions = {named = [1, 3]}", [1, 3]),
        ("labels = {old = 1}", [1, 4]),
        ("labels = {stable = 4, canary = 2}", [2, 4]),
        ("labels = {canary = 4}\ntraffic = {canary = 0.1}", [3, 4]),
        ("labels = {canary = 4}\ntraffic = {canary = 0.1}\nversions = {named = [2]}", [2, 4]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_config_says_which_versions_are_served(
    repository: Repository, models: Path, content: str, versions: list[int]
) -> None:
    for version in (2, 3, 4):
        write(models, version)
    configure(models, content)
    loaded = repository.load("tiny")
    assert [model.model_version for model in loaded.models] == versions
    assert loaded.num_missing == 0


async def test_versions_stay_open_while_their_files_are_the_same(
    shelf: ModelShelf, models: Path
) -> None:
    before = shelf.find("tiny", 1)
    configure(models, "versions = {all = true}")
    write(models, 2)
    await shelf.load("tiny")
    assert served(shelf) == [("tiny", 1), ("tiny", 2)]
    assert shelf.find("tiny", 1) is before


async def test_refused_version_leaves_all_others_serving(shelf: ModelShelf, models: Path) -> None:
    configure(models, "versions = {latest = 2}")
    write(models, 2)
    await shelf.load("tiny")
    write(models, 3, b"no model")
    with pytest.raises(ModelRefusedError, match="version 3 is refused"):
        await shelf.load("tiny")
    assert served(shelf) == [("tiny", 1), ("tiny", 2)]


async def test_version_whose_successor_is_refused_stands_in_for_it(
    shelf: ModelShelf, models: Path
) -> None:
    write(models, 2, b"no model")
    configure(models, "versions = {named = [2]}")
    with pytest.raises(ModelRefusedError, match="version 2 is refused"):
        await shelf.load("tiny")
    assert served(shelf) == [("tiny", 1)]
    write(models, 2)
    await shelf.load("tiny")
    assert served(shelf) == [("tiny", 2)]


async def test_wrong_config_leaves_everything_as_it_is_and_says_why(
    shelf: ModelShelf, models: Path
) -> None:
    before = shelf.find("tiny", 1)
    write(models, 2)
    configure(models, "max_batch_size = 0")
    with pytest.raises(ConfigError, match="max_batch_size"):
        await shelf.load("tiny")
    assert served(shelf) == [("tiny", 1)]
    assert shelf.find("tiny", 1) is before
    (listed,) = shelf.listed()
    assert "max_batch_size" in listed.config_refusal
    configure(models, "")
    await shelf.load("tiny")
    assert shelf.listed()[0].config_refusal == ""


def test_model_of_a_wrong_config_is_refused_at_the_start(
    repository: Repository, models: Path, tmp_path: Path
) -> None:
    configure(models, "device = 'cuda'")
    (loaded,) = load_first(repository, tmp_path / "none")
    (model,) = loaded.models
    assert model.engine is None
    assert "runs on the CPU" in model.reason


def second_of_two_gpus(models: Path) -> Repository:
    return Repository(models, "cuda", gpu=Gpu(1, 2), load=load_as_on_cuda)


async def serve_on_cuda(models: Path, tmp_path: Path) -> ModelShelf:
    repository = second_of_two_gpus(models)
    memory = tmp_path / "memory"
    shelf = ModelShelf(
        repository, make_batcher, limits_of=limits_of, memory=memory, retire_after_s=0.0
    )
    await shelf.put(repository.load("tiny"))
    return shelf


async def test_model_of_other_gpus_is_listed_without_versions(models: Path, tmp_path: Path) -> None:
    configure(models, "devices = [0]")
    async with await serve_on_cuda(models, tmp_path) as shelf:
        assert [model.versions for model in shelf.listed()] == [[]]
        with pytest.raises(ModelNotFoundError):
            shelf.find("tiny", 1)
        await shelf.load("tiny")
        await shelf.label("tiny", LabelChange("stable", 1))
        (again,) = load_first(second_of_two_gpus(models), tmp_path / "memory")
        assert (again.models, again.config.labels) == ((), {"stable": 1})
        await shelf.unload("tiny")
        assert shelf.listed() == []


async def test_model_moves_to_another_gpu_and_back(models: Path, tmp_path: Path) -> None:
    async with await serve_on_cuda(models, tmp_path) as shelf:
        assert shelf.find("tiny", 1).engine.device == "cuda"
        configure(models, "devices = [0]")
        await shelf.load("tiny")
        assert shelf.models() == []
        configure(models, "devices = [0, 1]")
        await shelf.load("tiny")
        assert [model.model_version for model in shelf.models()] == [1]


def test_gpu_that_is_not_there_refuses_the_model(models: Path) -> None:
    configure(models, "devices = [2]")
    (model,) = second_of_two_gpus(models).load("tiny").models
    assert model.reason == "config.toml: devices: there is no GPU 2, the last one here is 1"


async def test_limits_change_under_the_same_engine(shelf: ModelShelf, models: Path) -> None:
    before = shelf.find("tiny", 1)
    configure(models, "max_batch_size = 1")
    await shelf.load("tiny")
    assert shelf.find("tiny", 1) is before
    answers: list[object] = []
    for _ in range(3):
        before.batcher.submit(pending(answers))
    await until(lambda: len(answers) == 3)
    assert before.batcher.statistics.execution_count == 3
