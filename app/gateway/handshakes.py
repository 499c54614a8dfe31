"""Lets a listener be closed without resetting a connection that it has just completed."""

import contextlib
import ctypes
import socket
import struct
import sys

_SO_ATTACH_FILTER = 26
_INSTRUCTION = struct.Struct("=HBBI")
_PROGRAM = struct.Struct("@HP")
_DROP_SYN = b"".join(
    _INSTRUCTION.pack(*fields)
    for fields in (
        (0x30, 0, 0, 13),  # load the byte of flags of the TCP header
        (0x45, 0, 1, 0x02),  # is SYN set?
        (0x06, 0, 0, 0),  # then drop the packet
        (0x06, 0, 0, 0xFFFFFFFF),  # else keep all of it
    )
)
"""Classic BPF, as in socket(7) of Linux."""


def stop_handshakes(listener: socket.socket) -> None:
    """Let no connection begin any more; those that have begun are completed and can be accepted.

    The kernel drops the first packet of others, which a caller sends again after a second and is
    refused then, once the listener is closed. Nothing was sent on such a connection, so nothing is
    lost. Where the system has no such filter, connections go on to begin.
    """
    if sys.platform != "linux":
        return
    instructions = ctypes.create_string_buffer(_DROP_SYN, len(_DROP_SYN))
    count = len(_DROP_SYN) // _INSTRUCTION.size
    program = _PROGRAM.pack(count, ctypes.addressof(instructions))
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
