"""API keys: how they are made, written to a file as hashes, and checked.

A key is ``gc_<key_id>_<secret>``. The file holds one line per key, ``<key_id>[:admin] <sha256 of
secret, hex> [comment]``; empty lines and lines that begin with ``#`` do not count. The scope is
part of the first word so that no comment can be taken for one. A fast hash suffices: the secret is
256 random bits.
"""

import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.errors import StartupError

_KEY = re.compile(r"gc_([0-9a-f]{4,32})_([A-Za-z0-9_-]{43})")
_LINE = re.compile(r"([0-9a-f]{4,32})(:admin)?\s+([0-9a-f]{64})(?:\s.*)?")
_RECHECK_S = 1.0

logger = logging.getLogger("gatecast.keys")


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made: its text, to be given away once, and the line that lets it in."""

    text: str
    line: str


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the file; ``is_admin`` lets it load and unload models."""

    key_id: str
    digest: bytes
    is_admin: bool


_NO_KEY = Key("", bytes(32), is_admin=False)


def create_key(comment: str = "", *, is_admin: bool = False) -> NewKey:
    """Make a key from fresh random bits."""
    key_id, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    first = f"{key_id}:admin" if is_admin else key_id
    line = " ".join(part for part in (first, digest, " ".join(comment.split())) if part)
    return NewKey(f"gc_{key_id}_{secret}", line)


def load_keys(path: Path) -> dict[str, Key]:
    """Read the keys, by key id.

    Raises:
        StartupError: The file can not be read, or a line is not of the form; the message gives its
            number.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"GATECAST_API_KEYS_FILE: can not read {path.name}") from error
    keys: dict[str, Key] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None or match[1] in keys:
            raise StartupError(
                f"GATECAST_API_KEYS_FILE: line {number} must be "
                "`<key_id>[:admin] <sha256 hex> [comment]`, each id once"
            )
        keys[match[1]] = Key(match[1], bytes.fromhex(match[3]), is_admin=bool(match[2]))
    return keys


class KeyRing:
    """The keys of a file, read again when it has changed.

    A file that breaks while the service runs leaves the keys as they were, and is logged.

    Args:
        path: The file of hashed keys.
        clock: Seconds that only grow.

    Raises:
        StartupError: The file is not sound.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._stamp = _stamp_of(path)
        self._keys = load_keys(path)
        self._checked = clock()

    def identify(self, text: str) -> Key | None:
        """Return the key whose text is ``text``, or None where it is not on the ring."""
        self._reload()
        match = _KEY.fullmatch(text)
        if match is None:
            return None
        digest = hashlib.sha256(match[2].encode()).digest()
        # An unknown id costs the same comparison as a known one.
        key = self._keys.get(match[1], _NO_KEY)
        return key if hmac.compare_digest(key.digest, digest) else None

    def _reload(self) -> None:
        now = self._clock()
        if now - self._checked < _RECHECK_S:
            return
        self._checked = now
        stamp = _stamp_of(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._keys = load_keys(self._path)
        except StartupError:
            logger.exception("the API keys stay as they were")
        else:
            logger.info("read %d API keys", len(self._keys))


def _stamp_of(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
