"""Reads the file in the body of a request."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import TypeVar

from starlette.datastructures import Headers
from starlette.requests import Request

from app.errors import BodyTimeoutError
from app.files.raw import FileFormat, FileLimits
from app.files.series import FileSeries, RefusedSeries
from app.files.streaming import SeriesOptions, SeriesStream, open_series
from app.gateway.body import save_body
from app.gateway.file_types import format_of
from app.gateway.spool import Spool
from app.settings import Settings

_Result = TypeVar("_Result")
_MAX_DECODED_BYTES = 256 * 2**20
_ROWS_IN_MEMORY = 2**17


class FileReader:
    """Works on one file at a time, so that peaks of memory do not add up."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._slot = asyncio.Semaphore(1)

    async def read(
        self, request: Request, options: SeriesOptions, then: Callable[[SeriesStream], _Result]
    ) -> _Result:
        """Return what ``then`` makes of the series in the body; all of it off the event loop.

        Raises:
            GatecastError: As ``open`` and ``then``.
            CallerLeftError: The caller closed the connection first.
        """
        async with contextlib.aclosing(await self.open(request, options)) as file:
            return await file.work(then)

    async def open(self, request: Request, options: SeriesOptions) -> "OpenFile":
        """Read the whole body and look at all of its rows once; the caller closes the file.

        Raises:
            GatecastError: As ``read_body`` and ``open_series``.
            CallerLeftError: The caller closed the connection first.
        """
        headers = Headers(scope=request.scope)
        file_format, encoding = format_of(headers.get("content-type", ""))
        file = OpenFile(self._slot)
        try:
            await self._receive(request, file.spool)
            await file.open(file_format, replace(options, encoding=encoding, limits=self._limits()))
        except BaseException:
            await file.aclose()
            raise
        return file

    async def _receive(self, request: Request, spool: Spool) -> None:
        limit_s = self._settings.body_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                await save_body(
                    request.scope,
                    request.receive,
                    spool.write,
                    encodings=("gzip", "x-gzip"),
                    max_bytes=self._settings.max_file_bytes,
                    pause_s=limit_s,
                )
        except TimeoutError as error:
            raise BodyTimeoutError(f"the body did not arrive within {limit_s:g} s") from error

    def _limits(self) -> FileLimits:
        return FileLimits(
            max_rows=self._settings.max_steps,
            max_decoded_bytes=_MAX_DECODED_BYTES,
            max_series_steps=self._settings.max_steps,
            rows_in_memory=_ROWS_IN_MEMORY,
        )


class OpenFile:
    """A file and its series; each step of work on it waits for its turn among all files."""

    def __init__(self, slot: asyncio.Semaphore) -> None:
        self.spool = Spool()
        self._slot = slot
        self._stream: SeriesStream | None = None
        self._series: Iterator[FileSeries | RefusedSeries] | None = None

    async def open(self, file_format: FileFormat, options: SeriesOptions) -> None:
        """Look at all rows of what was spooled.

        Raises:
            GatecastError: As ``open_series``.
        """

        def open_stream() -> None:
            self._stream = open_series(self.spool.source(), file_format, options)

        await self._in_turn(open_stream)

    @property
    def stream(self) -> SeriesStream:
        """The series."""
        if self._stream is None:
            raise RuntimeError("the file is not open")
        return self._stream

    async def work(self, step: Callable[[SeriesStream], _Result]) -> _Result:
        """Do something with the series off the event loop."""
        return await self._in_turn(lambda: step(self.stream))

    async def take(self, count: int) -> list[FileSeries | RefusedSeries]:
        """Return the next series, at most ``count``; none are left where there are none."""

        def take_next(stream: SeriesStream) -> list[FileSeries | RefusedSeries]:
            self._series = self._series or iter(stream)
            return list(islice(self._series, count))

        return await self.work(take_next)

    async def aclose(self) -> None:
        """Delete what lies on disk."""
        self._series = None
        if self._stream is not None:
            await asyncio.to_thread(self._stream.close)
        self.spool.close()

    async def _in_turn(self, step: Callable[[], _Result]) -> _Result:
        """Run a step in a thread; one that is cancelled ends before its file is taken away."""
        async with self._slot:
            running = asyncio.ensure_future(asyncio.to_thread(step))
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                await asyncio.wait([running])
                raise
