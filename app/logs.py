"""Logs as JSON lines on standard error; every line of a request carries its id."""

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

import msgspec
from pythonjsonlogger.msgspec import MsgspecFormatter
from typing_extensions import override

from app.settings import Settings

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""Id of the request that the current task answers; empty outside requests."""

_GATHER_S = 0.1
_RENAMED = {"levelname": "level", "name": "logger", "exc_info": "exception"}

_access_logger = logging.getLogger("gatecast.access")
_access_template = vars(
    logging.LogRecord(_access_logger.name, logging.INFO, "", 0, "request", None, None)
)
_encoder = msgspec.json.Encoder()


class AccessRecord(logging.LogRecord):
    """One answered request; made and formatted without what logging finds out for other lines."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        now = time.time()
        self.fields = fields
        vars(self).update(_access_template, created=now, msecs=now % 1 * 1000, **fields)

    def to_json(self) -> str:
        """Return the line."""
        line = {"level": "INFO", "logger": self.name, "message": self.msg, **self.fields}
        if request_id := vars(self).get("request_id"):
            line["request_id"] = request_id
        line["timestamp"] = datetime.fromtimestamp(self.created, UTC)
        return _encoder.encode(line).decode()


class _RequestIdFilter(logging.Filter):
    @override
    def filter(self, record: logging.LogRecord) -> bool:
        if request_id := REQUEST_ID.get():
            record.request_id = request_id
        return True


class _LineFormatter(MsgspecFormatter):
    @override
    def format(self, record: logging.LogRecord) -> str:
        if isinstance(record, AccessRecord):
            return record.to_json()
        return super().format(record)


class _GatheringHandler(logging.StreamHandler[TextIO]):
    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines: list[str] = []

    @override
    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.append(self.format(record))
        except Exception:  # noqa: BLE001 - as every handler of the standard library
            self.handleError(record)
            return
        if record.levelno >= logging.WARNING:
            self.flush()
        elif len(self._lines) == 1:
            self._flush_soon()

    @override
    def flush(self) -> None:
        with self.lock or contextlib.nullcontext():
            lines, self._lines = self._lines, []
            if lines:
                self.stream.write("\n".join(lines) + "\n")
        super().flush()

    def _flush_soon(self) -> None:
        try:
            asyncio.get_running_loop().call_later(_GATHER_S, self.flush)
        except RuntimeError:  # no event loop in this thread
            self.flush()


def log_access(fields: Mapping[str, object]) -> None:
    """Log that a request was answered."""
    if _access_logger.isEnabledFor(logging.INFO):
        _access_logger.handle(AccessRecord(fields))


def make_handler(stream: TextIO) -> logging.Handler:
    """Return a handler that writes one JSON object a line to ``stream``."""
    return _complete(logging.StreamHandler(stream))


def make_gathering_handler(stream: TextIO) -> logging.Handler:
    """Return one that writes what comes within a tenth of a second at once, warnings at once."""
    return _complete(_GatheringHandler(stream))


def configure_logging(settings: Settings) -> None:
    """Send the logs of this process to standard error, from ``settings.log_level`` on."""
    handlers = [make_gathering_handler(sys.stderr)]
    logging.basicConfig(handlers=handlers, level=settings.log_level.upper(), force=True)


def _complete(handler: logging.Handler) -> logging.Handler:
    handler.addFilter(_RequestIdFilter())
    handler.setFormatter(
        _LineFormatter("%(levelname)s %(name)s %(message)s", rename_fields=_RENAMED, timestamp=True)
    )
    return handler
