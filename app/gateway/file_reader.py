"""Reads the file in the body of a request."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from starlette.datastructures import Headers
from starlette.requests import Request

from app.files.raw import FileLimits
from app.files.streaming import SeriesOptions, SeriesStream, open_series
from app.gateway.body import read_body
from app.gateway.file_types import format_of
from app.settings import Settings

_Result = TypeVar("_Result")
_MAX_DECODED_BYTES = 256 * 2**20


class FileReader:
    """Reads one file at a time, whatever is made of it, so that peaks of memory do not add up."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._slot = asyncio.Semaphore(1)

    async def read(
        self, request: Request, options: SeriesOptions, then: Callable[[SeriesStream], _Result]
    ) -> _Result:
        """Return what ``then`` makes of the series in the body; all of it off the event loop.

        Raises:
            GatecastError: As ``read_body``, ``open_series`` and ``then``.
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
        limits = FileLimits(
            max_rows=self._settings.max_steps,
            max_decoded_bytes=_MAX_DECODED_BYTES,
            max_series_steps=self._settings.max_steps,
        )

        def read() -> _Result:
            chosen = replace(options, encoding=encoding, limits=limits)
            with open_series(body, file_format, chosen) as stream:
                return then(stream)

        async with self._slot:
            return await asyncio.to_thread(read)
