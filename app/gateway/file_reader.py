"""Reads the file in the body of a request."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from starlette.datastructures import Headers
from starlette.requests import Request

from app.files.columns import ColumnRoles
from app.files.reading import RawTable, read_file
from app.files.series import FileContent, read_series
from app.gateway.body import read_body
from app.gateway.file_types import format_of
from app.settings import Settings

_Result = TypeVar("_Result")


class FileReader:
    """Reads one file at a time, whatever is made of it, so that peaks of memory do not add up."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._slot = asyncio.Semaphore(1)

    async def read(
        self,
        request: Request,
        roles: ColumnRoles,
        freq: str | None,
        then: Callable[[RawTable, FileContent], _Result],
    ) -> _Result:
        """Return what ``then`` makes of the series in the body; all of it off the event loop.

        Raises:
            GatecastError: As ``read_body``, ``read_file``, ``read_series`` and ``then``.
            CallerLeftError: The caller closed the connection first.
        """
        headers = Headers(scope=request.scope)
        file_format, encoding = format_of(headers.get("content-type", ""))
        body = await read_body(
            request.scope,
            request.receive,
            encodings=("gzip", "x-gzip"),
            max_bytes=self._settings.max_file_bytes,
            timeout_s=self._settings.body_timeout_s,
        )

        def read() -> _Result:
            limit = self._settings.max_steps
            raw = read_file(body, file_format, max_rows=limit, encoding=encoding)
            return then(raw, read_series(raw, roles, freq, max_steps=limit))

        async with self._slot:
            return await asyncio.to_thread(read)
