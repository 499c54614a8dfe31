"""Tells schemathesis how to send the files that the service reads: byte by byte."""

from typing import Any

import schemathesis
from schemathesis.transport.serialization import serialize_binary

from app.gateway.file_types import MEDIA_TYPES


@schemathesis.serializer(*MEDIA_TYPES)
def serialize_file(_: Any, value: Any) -> bytes:
    """Return the bytes of a generated body."""
    return serialize_binary(value)
