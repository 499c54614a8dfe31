"""Reads the body of a request within its limits, and watches whether the caller stays."""

import asyncio
import contextlib
import zlib
from abc import abstractmethod
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from backports import zstd
from starlette.datastructures import Headers
from starlette.types import Receive, Scope
from typing_extensions import override

from app.errors import (
    BodyTimeoutError,
    MalformedBodyError,
    PayloadTooLargeError,
    UnsupportedMediaTypeError,
)

_INLINE_COMPRESSED_BYTES = 2**12
_MAX_DIGITS = 20
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
    memory = _Memory()
    await spool_body(
        scope, receive, memory, encodings=encodings, max_bytes=max_bytes, timeout_s=timeout_s
    )
    return memory.content()


async def spool_body(
    scope: Scope,
    receive: Receive,
    target: "BodyTarget",
    *,
    encodings: Sequence[str],
    max_bytes: int,
    timeout_s: float,
) -> None:
    """Write a body of any kind, decompressed, to ``target`` as it arrives.

    Raises:
        GatecastError: As ``read_body``.
        CallerLeftError: The caller closed the connection first.
    """
    headers = Headers(scope=scope)
    encoding = headers.get("content-encoding", "identity")
    sink = _make_sink(target, encoding, encodings, max_bytes)
    declared = headers.get("content-length", "0")
    if declared.isdecimal() and int(declared[:_MAX_DIGITS]) > max_bytes:
        raise _too_large(max_bytes)
    try:
        async with asyncio.timeout(timeout_s):
            await _receive_into(sink, receive)
    except TimeoutError as error:
        raise BodyTimeoutError(f"the body did not arrive within {timeout_s:g} s") from error
    sink.finish()


@contextlib.asynccontextmanager
async def cancel_when_caller_leaves(receive: Receive) -> AsyncGenerator[None]:
    """Cancel what runs inside when the caller closes the connection; the body must have been read.

    Raises:
        CallerLeftError: The caller did.
    """
    presence = asyncio.timeout(None)
    try:
        async with presence:
            watcher = asyncio.create_task(_end_on_disconnect(receive, presence))
            try:
                yield
            finally:
                watcher.cancel()
    except TimeoutError as error:
        if presence.expired():
            raise CallerLeftError from error
        raise


async def _end_on_disconnect(receive: Receive, presence: asyncio.Timeout) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    presence.reschedule(asyncio.get_running_loop().time())


class BodyTarget(Protocol):
    """Takes the pieces of a body."""

    @abstractmethod
    def write(self, piece: bytes) -> None:
        """Take the next piece."""


class _Memory(BodyTarget):
    def __init__(self) -> None:
        self._received: bytes | bytearray = b""

    @override
    def write(self, piece: bytes) -> None:
        if not self._received:
            self._received = piece  # most bodies are one chunk, which is not copied
            return
        if isinstance(self._received, bytes):
            self._received = bytearray(self._received)
        self._received += piece

    def content(self) -> bytes:
        return bytes(self._received)


class _PlainSink:
    """Passes a body on as it is."""

    def __init__(self, target: BodyTarget, max_bytes: int) -> None:
        self._target = target
        self._max_bytes = max_bytes
        self._num_bytes = 0

    def write(self, chunk: bytes) -> None:
        self._num_bytes += len(chunk)
        if self._num_bytes > self._max_bytes:
            raise _too_large(self._max_bytes)
        self._target.write(chunk)

    def finish(self) -> None:
        """Nothing is left to be checked."""


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
    """Passes on a body of one gzip member, zlib stream or zstd frame, decompressed."""

    def __init__(self, target: BodyTarget, encoding: str, max_bytes: int) -> None:
        self._target = target
        self._encoding = encoding.removeprefix("x-")
        self._max_bytes = max_bytes
        self._num_compressed = 0
        self._num_bytes = 0
        self._inflater = _make_inflater(encoding)

    def write(self, chunk: bytes) -> None:
        if not chunk:
            return  # the end of a body, which zstd takes for more of it
        self._num_compressed += len(chunk)
        room = self._max_bytes - self._num_bytes
        if self._inflater.eof:
            raise self._goes_on()
        try:
            piece = self._inflater.decompress(chunk, room + 1)
        except (zlib.error, zstd.ZstdError) as error:
            raise MalformedBodyError(f"the body is not valid {self._encoding}") from error
        self._num_bytes += len(piece)
        if max(self._num_compressed, self._num_bytes) > self._max_bytes:
            raise _too_large(self._max_bytes)
        self._target.write(piece)
        if self._inflater.unused_data:
            raise self._goes_on()

    def _goes_on(self) -> MalformedBodyError:
        return MalformedBodyError(f"the body goes on after the end of its {self._encoding} data")

    def finish(self) -> None:
        if not self._inflater.eof:
            raise MalformedBodyError(f"the body is not valid {self._encoding}: it is cut off")


async def _receive_into(sink: _PlainSink | _InflatingSink, receive: Receive) -> None:
    is_last = False
    while not is_last:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerLeftError
        chunk: bytes = message.get("body", b"")
        if isinstance(sink, _InflatingSink) and len(chunk) > _INLINE_COMPRESSED_BYTES:
            await asyncio.to_thread(sink.write, chunk)  # may well grow a thousandfold
        else:
            sink.write(chunk)
        is_last = not message.get("more_body", False)


def check_content_type(scope: Scope, media_types: Sequence[str]) -> str:
    """Return which of ``media_types`` a request has.

    Raises:
        UnsupportedMediaTypeError: It has none of them, or another charset than UTF-8.
    """
    content_type = Headers(scope=scope).get("content-type", "")
    media_type, *parameters = (part.strip().lower() for part in content_type.split(";"))
    charsets = [p.partition("=")[2].strip('"') for p in parameters if p.startswith("charset=")]
    if media_type not in media_types or not {"utf-8", "utf8"}.issuperset(charsets):
        raise UnsupportedMediaTypeError(
            f"Content-Type must be {' or '.join(media_types)}, in UTF-8"
        )
    return media_type


def _make_sink(
    target: BodyTarget, encoding: str, encodings: Sequence[str], max_bytes: int
) -> _PlainSink | _InflatingSink:
    encoding = encoding.strip().lower()
    if encoding in {"identity", ""}:
        return _PlainSink(target, max_bytes)
    if encoding in encodings:
        return _InflatingSink(target, encoding, max_bytes)
    known = " or ".join(name for name in encodings if not name.startswith("x-"))
    raise UnsupportedMediaTypeError(f"Content-Encoding must be {known}, or left out")


def _too_large(max_bytes: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(
        f"the body may hold at most {max_bytes} bytes, also after decompression"
    )
