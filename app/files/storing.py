"""What a disk refuses, told as such: it is no fault of the service, and may pass."""

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager

from app.errors import StorageError


@contextmanager
def storing(what: str) -> Generator[None]:
    """Keep something on disk; what is told of its trouble names no path.

    Args:
        what: The subject of the message, such as ``the rows of the file``.

    Raises:
        StorageError: The disk refuses.
    """
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno or errno.EIO)
        raise StorageError(f"{what} can not be kept: {reason}") from error
