"""A shelf with one real model."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from app.runner.repository import Repository
from app.runner.shelf import ModelShelf
from tests.app.shelves import limits_of, make_batcher, write


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
        repository, make_batcher, limits_of=limits_of, memory=memory, retire_after_s=0.05
    )
    async with shelf:
        await shelf.put(repository.load("tiny"))
        yield shelf
