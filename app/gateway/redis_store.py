"""Keeps streams in a Redis that several services share.

Every change is one script, which Redis runs as a whole, so any number of gateways may write: a
stream moves on only from what its writer read. No call is tried again by itself, since one whose
answer got lost may have been done; callers can, by their step numbers.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import numpy as np
from typing_extensions import override

from app.errors import (
    StartupError,
    StreamConflictError,
    StreamLimitError,
    StreamLostError,
    StreamNotFoundError,
    StreamStoreError,
)
from app.gateway.redis_scripts import APPEND, DELETE, GET, PUT
from app.gateway.stream_covariates import StreamCovariates
from app.gateway.stream_store import (
    MAX_ANSWERS,
    STREAM_MOVED,
    UNKNOWN_STREAM,
    Stream,
    StreamKey,
    StreamStore,
    limit_message,
)

if TYPE_CHECKING:
    from redis.asyncio import Redis

_TIMEOUT_S = 2.0
_MAX_CONNECTIONS = 32
_LONGEST_TTL_MS = 10**13
_LOG_INTERVAL_S = 10.0
_URL_OPTIONS = frozenset(
    {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"}
)

logger = logging.getLogger("gatecast.gateway")


class _Record(msgspec.Struct, frozen=True, array_like=True):
    """A stream as it is written; ``tail`` is little-endian float32."""

    step: int
    tail: bytes
    start: str | None
    freq: str | None
    covariates: StreamCovariates


_record_decoder = msgspec.msgpack.Decoder(_Record)
_answer_decoder = msgspec.msgpack.Decoder(tuple[bytes, bytes])


class RedisStore(StreamStore):
    """Keeps streams in Redis; belongs to the event loop that first uses it.

    Nothing is asked of Redis before the first stream is, so that a service starts without it.

    Args:
        url: ``redis://`` or, with TLS, ``rediss://``, with what Redis wants as name and password.
        ttl_s: A stream to which nothing is added for so long expires.
        max_streams: Most streams of one owner.
        timeout_s: Longest that a call waits for Redis.

    Raises:
        StartupError: The package is missing, or the URL is wrong; the message does not repeat it.
    """

    def __init__(
        self, url: str, *, ttl_s: float, max_streams: int, timeout_s: float = _TIMEOUT_S
    ) -> None:
        self._ttl_s = ttl_s
        self._timeout_s = timeout_s
        self._ttl_ms = max(1, round(min(ttl_s * 1000, _LONGEST_TTL_MS)))
        self._max_streams = max_streams
        self._client = _connect(url, timeout_s)
        self._scripts = {
            text: self._client.register_script(text) for text in (GET, PUT, APPEND, DELETE)
        }
        self._quiet_until = 0.0

    @override
    async def get(self, key: StreamKey) -> Stream:
        found = await self._run(GET, key)
        if isinstance(found, bytes):
            raise self._missing(found)
        return _to_stream(*found)

    @override
    async def put(self, key: StreamKey, stream: Stream) -> bool:
        record = _to_record(stream)
        outcome = await self._run(
            PUT, key, self._ttl_ms, record, _digest(record), self._max_streams
        )
        if outcome == b"full":
            raise StreamLimitError(limit_message(self._max_streams))
        return bool(outcome == b"new")

    @override
    async def append(
        self, key: StreamKey, before: Stream, after: Stream, *, digest: bytes, answer: bytes
    ) -> None:
        record = _to_record(after)
        outcome = await self._run(
            APPEND, key, self._ttl_ms, record, _digest(record), _digest(_to_record(before)),
            before.step, msgspec.msgpack.encode((digest, answer)), MAX_ANSWERS,
        )  # fmt: skip
        if outcome == b"moved":
            raise StreamConflictError(STREAM_MOVED)

    @override
    async def find_answer(self, key: StreamKey, step: int) -> tuple[bytes, bytes] | None:
        async with self._reaching():
            found: Any = await self._client.hget(_names_of(key)[0], f"answer:{step}")
        return None if found is None else _answer_decoder.decode(found)

    @override
    async def read_page(
        self, owner: str, model_name: str, *, after: str, limit: int
    ) -> list[tuple[str, Stream]]:
        page: list[tuple[str, Stream]] = []
        while missing := limit - len(page):
            names = await self._read_names(owner, model_name, after=after, limit=missing)
            if not names:
                break
            page += await self._read_streams(StreamKey(owner, model_name, one) for one in names)
            after = names[-1]
        return page

    @override
    async def delete(self, key: StreamKey) -> None:
        outcome = await self._run(DELETE, key)
        if outcome != b"done":
            raise self._missing(outcome)

    @override
    async def close(self) -> None:
        await self._client.aclose()

    async def _run(self, script: str, key: StreamKey, *arguments: bytes | float) -> Any:
        async with self._reaching():
            return await self._scripts[script](
                keys=_names_of(key), args=[_member(key.model_name, key.stream_id), *arguments]
            )

    async def _read_names(
        self, owner: str, model_name: str, *, after: str, limit: int
    ) -> list[str]:
        """Return names of streams, those behind ``after``; some of them may have expired."""
        names = _names_of(StreamKey(owner, model_name, ""))[2]
        first, end = f"({_member(model_name, after)}", f"({model_name}0"  # what follows on "/"
        async with self._reaching():
            found: Any = await self._client.zrangebylex(names, first, end, 0, limit)
        return [one.decode().partition("/")[2] for one in found]

    async def _read_streams(self, keys: Iterable[StreamKey]) -> list[tuple[str, Stream]]:
        wanted = list(keys)
        async with self._reaching(), self._client.pipeline(transaction=False) as pipeline:
            for key in wanted:
                pipeline.hmget(_names_of(key)[0], ["record", "updated_at"])
            found = await pipeline.execute()
        return [
            (key.stream_id, _to_stream(*row))
            for key, row in zip(wanted, found, strict=True)
            if row[0] is not None
        ]

    def _missing(self, outcome: bytes) -> StreamLostError | StreamNotFoundError:
        if outcome == b"unknown":
            return StreamNotFoundError(UNKNOWN_STREAM)
        return StreamLostError(
            f"the stream is lost, as nothing was added to it for {self._ttl_s:g} s or Redis had to"
            " drop it; PUT it with its history"
        )

    @asynccontextmanager
    async def _reaching(self) -> AsyncGenerator[None]:
        """Bound a call in time and translate its failures."""
        from redis.exceptions import RedisError  # noqa: PLC0415 - an extra

        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except (RedisError, OSError) as error:  # the end of that time is an OSError, too
            self._log(error)
            raise StreamStoreError(
                "the store of streams does not answer; repeat the request, which is safe"
            ) from error

    def _log(self, error: Exception) -> None:
        """Say why, not for each request that meets the same."""
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + _LOG_INTERVAL_S
            logger.warning("the Redis of streams: %s: %s", type(error).__name__, error)


def _connect(url: str, timeout_s: float) -> "Redis":
    try:
        from redis.asyncio import (  # noqa: PLC0415 - an extra
            BlockingConnectionPool,
            Redis,
            SSLConnection,
        )
        from redis.exceptions import RedisError  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise StartupError(
            "GATECAST_STREAM_STORE: a Redis needs the package redis: pip install 'gatecast[redis]'"
        ) from error
    try:
        _check_url(url)
        pool = BlockingConnectionPool.from_url(
            url,
            protocol=2,
            max_connections=_MAX_CONNECTIONS,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
        )
        connection = pool.connection_class(**pool.connection_kwargs)
        if isinstance(connection, SSLConnection):
            connection.ssl_context.get()
    except OSError as error:
        raise StartupError(
            f"GATECAST_STREAM_STORE: can not use the certificates that the URL names: {error}"
        ) from error
    except (RedisError, TypeError, ValueError):
        # Without the cause: it may hold a part of the URL, and that a part of the password.
        raise StartupError(
            "GATECAST_STREAM_STORE: a Redis is redis://[[name]:password@]host[:port][/number], all"
            " percent-encoded, or the same as rediss:// with TLS, which may have the options"
            f" {', '.join(sorted(_URL_OPTIONS))}"
        ) from None
    return Redis.from_pool(pool)


def _check_url(url: str) -> None:
    """Refuse what the client would overlook, or take for something else."""
    parts = urlsplit(url)
    is_database = not parts.path.strip("/") or parts.path[1:].isdecimal()
    options = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    if not parts.hostname or parts.fragment or not is_database or options - _URL_OPTIONS:
        raise ValueError("not such a URL")
    _ = parts.port


def _names_of(key: StreamKey) -> list[str]:
    """Return the names in Redis that a script takes: in one slot, if it is a cluster's."""
    owner = f"gatecast:{{streams:{key.owner}}}"
    return [
        f"{owner}:stream:{_member(key.model_name, key.stream_id)}",
        f"{owner}:ages",
        f"{owner}:names",
    ]


def _member(model_name: str, stream_id: str) -> str:
    return f"{model_name}/{stream_id}"  # neither may hold a slash


def _to_record(stream: Stream) -> bytes:
    tail = stream.tail.astype("<f4", copy=False).tobytes()
    return msgspec.msgpack.encode(
        _Record(stream.step, tail, stream.start, stream.freq, stream.covariates)
    )


def _to_stream(record: bytes, updated_at_ms: bytes) -> Stream:
    try:
        kept = _record_decoder.decode(record)
    except msgspec.DecodeError as error:
        raise StreamLostError("what Redis keeps of the stream can not be read") from error
    tail = np.frombuffer(kept.tail, "<f4")
    return Stream(
        kept.step, tail, kept.start, kept.freq, kept.covariates, int(updated_at_ms) / 1000
    )


def _digest(record: bytes) -> bytes:
    return hashlib.sha256(record).digest()
