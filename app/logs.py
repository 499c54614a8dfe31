"""Logs as JSON lines on standard error; every line of a request carries its id."""

import logging
import sys
from contextvars import ContextVar
from typing import TextIO

from pythonjsonlogger.msgspec import MsgspecFormatter
from typing_extensions import override

from app.settings import Settings

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""Id of the request that the current task answers; empty outside requests."""

_RENAMED = {"levelname": "level", "name": "logger", "exc_info": "exception"}


class _RequestIdFilter(logging.Filter):
    @override
    def filter(self, record: logging.LogRecord) -> bool:
        if request_id := REQUEST_ID.get():
            record.request_id = request_id
        return True


def make_handler(stream: TextIO) -> logging.Handler:
    """Return a handler that writes one JSON object a line to ``stream``."""
    handler = logging.StreamHandler(stream)
    handler.addFilter(_RequestIdFilter())
    handler.setFormatter(
        MsgspecFormatter(
            "%(levelname)s %(name)s %(message)s", rename_fields=_RENAMED, timestamp=True
        )
    )
    return handler


def configure_logging(settings: Settings) -> None:
    """Send the logs of this process to standard error, from ``settings.log_level`` on."""
    logging.basicConfig(
        handlers=[make_handler(sys.stderr)], level=settings.log_level.upper(), force=True
    )
