"""Fixtures that many tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.service import write_model
from tests.redis_server import RedisServer, running_redis
from tests.tiny_artifact import shared, tiny_artifact


@pytest.fixture(scope="session", autouse=True)
def _share_artifacts(worker_id: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    if worker_id != "master":
        directory = tmp_path_factory.getbasetemp().parent / "artifacts"
        directory.mkdir(exist_ok=True)
        shared.append(directory)


@pytest.fixture(scope="session")
def tiny_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with one small untrained model, ``tiny``."""
    directory = tmp_path_factory.mktemp("model_repository")
    write_model(directory, tiny_artifact(context_length=512))
    return directory


@pytest.fixture(scope="session")
def _shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_server(_shared_redis: RedisServer) -> RedisServer:
    """A Redis that holds nothing, and is to be left running."""
    _shared_redis.clear()
    return _shared_redis


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis to stop, freeze and start again."""
    (tmp_path / "redis").mkdir()
    with running_redis(tmp_path / "redis") as server:
        yield server
