"""The digest of a model file, inside it: a changed bit is found."""

import hashlib
import re

from app.errors import ArtifactError

DIGEST_KEY = "gatecast.sha256"
UNSEALED_DIGEST = "0" * 64

_PRODUCER = b"gatecast"

# A protobuf map entry: field 1 the key, field 2 (tag 0x12) a value of 64 (0x40) bytes.
_SEAL = re.compile(re.escape(DIGEST_KEY.encode()) + rb"\x12\x40([0-9a-f]{64})")


def seal(model: bytes) -> bytes:
    """Write the digest of an unsealed ``model`` into it.

    Raises:
        ArtifactError: The model lacks the placeholder of ``app.artifact.metadata.to_metadata``.
    """
    digest = _digest(model)
    return model.replace(UNSEALED_DIGEST.encode(), digest.encode(), 1)


def is_plain_model(model: bytes) -> bool:
    """Whether ``model`` never was an artifact.

    The exporter writes its name at the very beginning, and the names of its metadata keys at the
    end: no truncation and no single damaged byte hides both.
    """
    return _PRODUCER not in model


def check_seal(model: bytes) -> str:
    """Return the digest inside ``model`` if it is that of its bytes.

    Raises:
        ArtifactError: There is no digest, or a bit of the file has changed.
    """
    match = _SEAL.search(model)
    if match is None:
        raise ArtifactError("not a gatecast artifact, or truncated: no digest inside")
    found = match[1].decode()
    if found != _digest(model):
        raise ArtifactError("damaged: the file does not match the digest inside it")
    return found


def _digest(model: bytes) -> str:
    matches = list(_SEAL.finditer(model))
    if len(matches) != 1:
        raise ArtifactError("not a gatecast artifact: it must hold exactly one digest")
    start, stop = matches[0].span(1)
    return hashlib.sha256(model[:start] + UNSEALED_DIGEST.encode() + model[stop:]).hexdigest()
