"""Catches what a handler of the service writes."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO


@contextmanager
def captured_log(make: Callable[[TextIO], logging.Handler]) -> Iterator[io.StringIO]:
    """Log to a handler that ``make`` gives, and to the stream that comes back."""
    stream = io.StringIO()
    handler, logger = make(stream), logging.getLogger("gatecast")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(before)


def lines_of(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]
