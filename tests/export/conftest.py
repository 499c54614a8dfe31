from pathlib import Path

import pytest

from export.figures import Verification
from export.verify import verify
from models.checkpoint import save_checkpoint
from tests.export.exported import Exported, export_tiny


@pytest.fixture(scope="session")
def exported() -> Exported:
    return export_tiny()


@pytest.fixture(scope="session")
def verification(exported: Exported) -> Verification:
    return verify(exported.model, exported.checkpoint)


@pytest.fixture(scope="session")
def checkpoint_directory(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoint")
    save_checkpoint(exported.checkpoint, directory)
    return directory
