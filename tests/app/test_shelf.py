"""A shelf of real models: what is served, replaced and remembered."""

import json
import shutil
import time
import weakref
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from app.artifact.directory import MODEL_FILE
from app.errors import (
    ConfigError,
    InvalidInputError,
    ModelNotFoundError,
    ModelRefusedError,
    StartupError,
)
from app.interface import Extent
from app.model_config import LabelChange, ModelConfig
from app.runner.batcher import DynamicBatcher
from app.runner.engine import Engine
from app.runner.memory import load_first
from app.runner.place import Gpu
from app.runner.polling import Poller, recall_stamps
from app.runner.queue import BatchLimits, PendingRequest, Terms
from app.runner.repository import Repository
from app.runner.shelf import ModelShelf
from tests.e2e.gpu_runner import load_as_on_cuda
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
    shelf = ModelShelf(
        repository, _batcher, limits_of=_limits_of, memory=memory, retire_after_s=0.05
    )
    async with shelf:
        await shelf.put(repository.load("tiny"))
        yield shelf


def _batcher(name: str, version: int, engine: Engine, limits: BatchLimits) -> DynamicBatcher:
    return DynamicBatcher(engine, limits, model_name=name, model_version=version)


def _limits_of(config: ModelConfig) -> BatchLimits:
    return replace(LIMITS, max_batch_size=config.max_batch_size or LIMITS.max_batch_size)


def write(directory: Path, version: int, model: bytes | None = None, name: str = "tiny") -> Path:
    path = directory / name / str(version) / MODEL_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tiny_artifact() if model is None else model)
    return path


def pending(answers: list[object]) -> PendingRequest:
    """A request of one row that puts its answer among ``answers``."""
    inputs = {
        "past_target": np.array([[1.0, 2.0]], np.float32),
        "sequence_lens": np.array([2], np.int32),
    }
    terms = Terms(time.monotonic(), time.monotonic() + 30)
    extent = Extent(1, 2, 2, frozenset(inputs))
    return PendingRequest(inputs, ["quantiles"], extent, terms, answer=answers.append)


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
    assert json.loads((tmp_path / "memory").read_bytes()) == {
        "tiny": {"versions": [3], "config": {}}
    }
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


async def test_what_is_served_is_remembered_once_the_beginning_is_complete(
    repository: Repository, models: Path, tmp_path: Path
) -> None:
    write(models, 1, name="other")
    memory = tmp_path / "begun"
    first, second = load_first(repository, memory)
    lost = ModelShelf(
        repository, _lost_at_tiny, limits_of=_limits_of, memory=memory, retire_after_s=0
    )
    async with lost:
        with pytest.raises(OSError, match="lost"):
            await lost.put(first, second)
    assert [model.model_name for model in load_first(repository, memory)] == ["other", "tiny"]


def _lost_at_tiny(name: str, version: int, engine: Engine, limits: BatchLimits) -> DynamicBatcher:
    if name == "tiny":
        raise OSError("the runner is lost")
    return _batcher(name, version, engine, limits)


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


def configure(models: Path, content: str) -> None:
    (models / "tiny" / "config.toml").write_text(content)


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
        repository, _batcher, limits_of=_limits_of, memory=memory, retire_after_s=0.0
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
