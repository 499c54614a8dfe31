"""Compresses answers in the encoding that a caller prefers."""

import gzip
import zlib
from collections.abc import Callable, Mapping

LEAST_BYTES = 1024
"""Smaller answers fit a packet or two as they are."""

_LEVEL = 1
_COMPRESSORS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": lambda body: gzip.compress(body, _LEVEL, mtime=0),
    "deflate": lambda body: zlib.compress(body, _LEVEL),
}


def choose_encoding(accept_encoding: str) -> str:
    """Return ``gzip`` or ``deflate``, or nothing where the caller likes neither better than that.

    Args:
        accept_encoding: The header, with its q-values; an encoding that it does not name is not
            wanted, unless ``*`` is.
    """
    wanted = dict(_parse(part) for part in accept_encoding.lower().split(",") if part.strip())
    anything = wanted.get("*", 0.0)
    best = max(_COMPRESSORS, key=lambda name: wanted.get(name, anything))
    quality = wanted.get(best, anything)
    return best if quality > 0 and quality >= wanted.get("identity", 0.0) else ""


def compress(body: bytes, encoding: str) -> bytes:
    """Compress ``body``; fast rather than small."""
    return _COMPRESSORS[encoding](body)


def _parse(part: str) -> tuple[str, float]:
    name, _, parameters = part.partition(";")
    key, _, value = parameters.partition("=")
    if key.strip() != "q":
        return name.strip(), 1.0
    try:
        return name.strip(), min(1.0, max(0.0, float(value)))
    except ValueError:
        return name.strip(), 0.0
