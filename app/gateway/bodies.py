"""Reads JSON bodies within the limits of the service, and turns them into requests."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from starlette.types import Receive, Scope

from app.gateway.body import read_json_body
from app.settings import Settings

_Prepared = TypeVar("_Prepared")

_INLINE_BYTES = 2**18


class Bodies:
    """Reads the bodies of all native requests of one gateway."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._large_bodies = asyncio.Semaphore(1)

    async def read(
        self, scope: Scope, receive: Receive, prepare: Callable[[bytes], _Prepared]
    ) -> _Prepared:
        """Return what ``prepare`` makes of the body, a large one on another thread.

        Raises:
            GatecastError: As ``read_json_body`` and ``prepare``.
            CallerLeftError: The caller closed the connection first.
        """
        body = await read_json_body(
            scope,
            receive,
            max_bytes=self._settings.max_body_bytes,
            timeout_s=self._settings.body_timeout_s,
        )
        if len(body) <= _INLINE_BYTES:
            return prepare(body)
        # One at a time: decoding holds the interpreter anyway, and peaks of memory do not add up.
        async with self._large_bodies:
            return await asyncio.to_thread(prepare, body)
