"""Reads the body of a request within its limits, and watches whether the caller stays."""

import asyncio
import time
import zlib
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol

from backports import zstd
from starlette.types import Receive, Scope
from typing_extensions import override

from app.errors import (
    BodyTimeoutError,
    MalformedBodyError,
    PayloadTooLargeError,
    UnsupportedMediaTypeError,
)
from app.gateway.exchange import header_of
from app.gateway.time_limits import TimeLimit

_INLINE_COMPRESSED_BYTES = 2**12
_SAVED_AT_ONCE_BYTES = 2**20
_MAX_DIGITS = 20
_UNWATCHED_S = 0.1
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""Bits of window by content encoding: 15, plus 16 where the frame is that of gzip."""
_ZSTD_OPTIONS = {int(zstd.DecompressionParameter.window_log_max): 23}
"""No frame may ask for a window of more than 8 MiB, the least that decoders should support."""


class CallerLeftError(Exception):
    """The caller closed the connection; nobody is left to be answered."""


async def read_json_body(
    scope: Scope,
    receive: Receive,
    *,
    max_bytes: int,
    timeout_s: float,
    encodings: Sequence[str] = ("gzip", "x-gzip"),
    media_types: Sequence[str] = ("application/json",),
) -> bytes:
    """Read a JSON body, decompressed.

    Never holds more than ``max_bytes``, however well the body is compressed.

    Raises:
        UnsupportedMediaTypeError: It is not JSON, or compressed other than by ``encodings``.
        PayloadTooLargeError: It is larger than ``max_bytes``, before or after decompression.
        BodyTimeoutError: It did not arrive within ``timeout_s``.
        MalformedBodyError: Its compression is not sound.
        CallerLeftError: The caller closed the connection first.
    """
    check_content_type(scope, media_types)
    return await read_body(
        scope, receive, encodings=encodings, max_bytes=max_bytes, timeout_s=timeout_s
    )


async def read_body(
    scope: Scope, receive: Receive, *, encodings: Sequence[str], max_bytes: int, timeout_s: float
) -> bytes:
    """Read a body of any kind, decompressed; ``encodings`` are the content encodings it may have.

    Raises:
        GatecastError: As ``read_json_body``, whatever the content type.
        CallerLeftError: The caller closed the connection first.
    """
    sink = _make_sink(scope, encodings, max_bytes)
    try:
        with TimeLimit(time.monotonic() + timeout_s):
            while not await _receive_piece(sink, receive):
                pass
    except TimeoutError as error:
        raise BodyTimeoutError(f"the body did not arrive within {timeout_s:g} s") from error
    sink.check_end()
    return sink.take()


async def save_body(
    scope: Scope,
    receive: Receive,
    save: Callable[[bytes], object],
    *,
    encodings: Sequence[str],
    max_bytes: int,
    pause_s: float,
) -> None:
    """Hand a body of any kind on, decompressed, piece by piece, to ``save`` on another thread.

    Args:
        scope: Of the request.
        receive: Of the request.
        save: Takes the next piece; about a mebibyte, unless it was compressed well.
        encodings: Content encodings that the body may have.
        max_bytes: Most bytes, before or after decompression.
        pause_s: Longest that the next piece may take to arrive.

    Raises:
        GatecastError: As ``read_json_body``, whatever the content type.
        CallerLeftError: The caller closed the connection first.
    """
    sink = _make_sink(scope, encodings, max_bytes)
    is_last = False
    while not is_last:
        try:
            async with asyncio.timeout(pause_s):
                is_last = await _receive_piece(sink, receive)
        except TimeoutError as error:
            raise BodyTimeoutError(f"nothing of the body arrived for {pause_s:g} s") from error
        if is_last or sink.num_held >= _SAVED_AT_ONCE_BYTES:
            await asyncio.to_thread(save, sink.take())
    sink.check_end()


class cancel_when_caller_leaves(TimeLimit):  # noqa: N801 - reads as the function that it is like
    """Cancel what runs inside when the caller closes the connection; the body must have been read.

    Nobody watches for the first tenth of a second: a task for it would cost more than most answers,
    and one that comes so soon is written to nobody.

    Raises:
        CallerLeftError: The caller did.
    """

    __slots__ = ("_receive", "_watcher")

    def __init__(self, receive: Receive) -> None:
        super().__init__(time.monotonic() + _UNWATCHED_S)
        self._receive = receive
        self._watcher: asyncio.Task[None] | None = None

    @override
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        try:
            super().__exit__(kind, error, trace)
        except TimeoutError as ended:
            raise CallerLeftError from ended

    @override
    def pass_limit(self) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.expire()


class _PlainSink:
    """Gathers a body as it is."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_received = 0
        self._held: bytes | bytearray = b""

    @property
    def num_held(self) -> int:
        """How many bytes wait to be taken."""
        return len(self._held)

    def write(self, chunk: bytes) -> None:
        self._num_received += len(chunk)
        if self._num_received > self._max_bytes:
            raise _too_large(self._max_bytes)
        if not self._held:
            self._held = chunk  # most bodies are one chunk, which is not copied
            return
        if isinstance(self._held, bytes):
            self._held = bytearray(self._held)
        self._held += chunk

    def take(self) -> bytes:
        """Return what has come since it was last taken."""
        held, self._held = bytes(self._held), b""
        return held

    def check_end(self) -> None:
        """Any end is as good as another."""


class _Inflater(Protocol):
    """Decompresses piece by piece, no more at a time than it is told."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _make_inflater(encoding: str) -> _Inflater:
    if encoding == "zstd":
        return zstd.ZstdDecompressor(options=_ZSTD_OPTIONS)
    return zlib.decompressobj(_WINDOWS[encoding])


class _InflatingSink:
    """Gathers a body of one gzip member, zlib stream or zstd frame, decompressed."""

    def __init__(self, encoding: str, max_bytes: int) -> None:
        self._encoding = encoding.removeprefix("x-")
        self._max_bytes = max_bytes
        self._num_compressed = 0
        self._num_received = 0
        self._held = bytearray()
        self._inflater = _make_inflater(encoding)

    @property
    def num_held(self) -> int:
        """How many bytes wait to be taken."""
        return len(self._held)

    def write(self, chunk: bytes) -> None:
        if not chunk:
            return  # the end of a body, which zstd takes for more of it
        self._num_compressed += len(chunk)
        room = self._max_bytes - self._num_received
        if self._inflater.eof:
            raise self._goes_on()
        try:
            inflated = self._inflater.decompress(chunk, room + 1)
        except (zlib.error, zstd.ZstdError) as error:
            raise MalformedBodyError(f"the body is not valid {self._encoding}") from error
        self._held += inflated
        self._num_received += len(inflated)
        if max(self._num_compressed, self._num_received) > self._max_bytes:
            raise _too_large(self._max_bytes)
        if self._inflater.unused_data:
            raise self._goes_on()

    def _goes_on(self) -> MalformedBodyError:
        return MalformedBodyError(f"the body goes on after the end of its {self._encoding} data")

    def take(self) -> bytes:
        """Return what has come since it was last taken."""
        held, self._held = bytes(self._held), bytearray()
        return held

    def check_end(self) -> None:
        if not self._inflater.eof:
            raise MalformedBodyError(f"the body is not valid {self._encoding}: it is cut off")


async def _receive_piece(sink: _PlainSink | _InflatingSink, receive: Receive) -> bool:
    """Take the next piece of a body in; return whether it is the last one."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise CallerLeftError
    chunk: bytes = message.get("body", b"")
    if isinstance(sink, _InflatingSink) and len(chunk) > _INLINE_COMPRESSED_BYTES:
        await asyncio.to_thread(sink.write, chunk)  # may well grow a thousandfold
    else:
        sink.write(chunk)
    return not message.get("more_body", False)


def check_content_type(scope: Scope, media_types: Sequence[str]) -> str:
    """Return which of ``media_types`` a request has.

    Raises:
        UnsupportedMediaTypeError: It has none of them, or another charset than UTF-8.
    """
    content_type = header_of(scope, b"content-type")
    if content_type in media_types:
        return content_type
    media_type, *parameters = (part.strip().lower() for part in content_type.split(";"))
    charsets = [p.partition("=")[2].strip('"') for p in parameters if p.startswith("charset=")]
    if media_type not in media_types or not {"utf-8", "utf8"}.issuperset(charsets):
        raise UnsupportedMediaTypeError(
            f"Content-Type must be {' or '.join(media_types)}, in UTF-8"
        )
    return media_type


def _make_sink(
    scope: Scope, encodings: Sequence[str], max_bytes: int
) -> _PlainSink | _InflatingSink:
    declared = header_of(scope, b"content-length")
    encoding = header_of(scope, b"content-encoding").strip().lower()
    if encoding not in {"identity", "", *encodings}:
        known = " or ".join(name for name in encodings if not name.startswith("x-"))
        raise UnsupportedMediaTypeError(f"Content-Encoding must be {known}, or left out")
    if declared.isdecimal() and int(declared[:_MAX_DIGITS]) > max_bytes:
        raise _too_large(max_bytes)
    if encoding in encodings:
        return _InflatingSink(encoding, max_bytes)
    return _PlainSink(max_bytes)


def _too_large(max_bytes: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(
        f"the body may hold at most {max_bytes} bytes, also after decompression"
    )
