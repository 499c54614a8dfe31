import asyncio
import io
import logging
from collections.abc import Iterator

import pytest

from app.logs import log_access, make_gathering_handler
from tests.captured_log import captured_log, lines_of
from tests.waiting import until


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    with captured_log(make_gathering_handler) as stream:
        yield stream


async def test_lines_of_one_moment_are_written_together(stream: io.StringIO) -> None:
    log_access({"route": "/first", "status": 200})
    log_access({"route": "/second", "status": 200})
    assert not stream.getvalue()
    await until(lambda: bool(stream.getvalue()))
    first, second = lines_of(stream)
    assert (first["route"], second["route"]) == ("/first", "/second")
    assert (first["level"], first["logger"]) == ("INFO", "gatecast.access")


async def test_warning_is_written_at_once_behind_what_waits(stream: io.StringIO) -> None:
    log_access({"route": "/first"})
    logging.getLogger("gatecast.test").warning("look")
    assert [line["message"] for line in lines_of(stream)] == ["request", "look"]


async def test_threads_write_at_once(stream: io.StringIO) -> None:
    await asyncio.to_thread(logging.getLogger("gatecast.test").info, "from a thread")
    assert [line["message"] for line in lines_of(stream)] == ["from a thread"]
