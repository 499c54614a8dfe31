"""The two kinds of stores of streams, as tests open them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from app.gateway.redis_store import RedisStore
from app.gateway.sqlite_store import SqliteStore
from app.gateway.stream_covariates import StreamCovariates
from app.gateway.stream_store import Stream, StreamKey, StreamStore
from tests.fakes import ManualClock
from tests.redis_server import RedisServer

TTL_S = 100.0
PATIENCE_S = 20.0
"""Longer than the service waits for Redis: the machine that runs tests may be busy."""
KEY = StreamKey("a", "monthly", "one")
COVARIATES = StreamCovariates({"price": [1.0, None]}, {"holiday": [0.5, 1.0]}, {"region": "south"})


class StorePlace(Protocol):
    """Where streams are kept; every store that is opened there has the same ones."""

    def open(self, max_streams: int = 10) -> StreamStore: ...

    def pass_time(self, seconds: float) -> None:
        """Make all streams older."""
        ...


class SqlitePlace:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._clock = ManualClock()

    def open(self, max_streams: int = 10) -> StreamStore:
        return SqliteStore(
            self._path, is_durable=True, ttl_s=TTL_S, max_streams=max_streams, clock=self._clock
        )

    def pass_time(self, seconds: float) -> None:
        self._clock.now += seconds


class RedisPlace:
    def __init__(self, server: RedisServer) -> None:
        self._server = server

    def open(self, max_streams: int = 10) -> StreamStore:
        return RedisStore(
            self._server.url, ttl_s=TTL_S, max_streams=max_streams, timeout_s=PATIENCE_S
        )

    def pass_time(self, seconds: float) -> None:
        self._server.pass_time(seconds)


@asynccontextmanager
async def opened(store: StreamStore) -> AsyncIterator[StreamStore]:
    """Close ``store`` when the block ends."""
    try:
        yield store
    finally:
        await store.close()


def stream(*values: float) -> Stream:
    return Stream(len(values), np.array(values, np.float32), "2024-01-31", "M", COVARIATES)
