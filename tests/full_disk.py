"""A disk that takes nothing more: files may not grow beyond some bytes."""

import resource
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def full_disk(max_bytes: int = 0) -> Generator[None]:
    """Refuse whatever makes a file of this process larger than ``max_bytes``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
