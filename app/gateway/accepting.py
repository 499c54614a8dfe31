"""Takes waiting connections from a listener many at a time.

The event loop itself takes one a turn. A turn of a busy gateway takes milliseconds, so under a
flood of new connections most of them would wait in the kernel's queue, unseen by whoever refuses
work, until that overflows and callers hang.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable

_MOST_AT_ONCE = 64
"""Few enough that other gateways at the same listener get theirs."""


class Acceptor:
    """Accepts beside the event loop's own server, from ``start`` to ``stop``.

    Args:
        listener: It stays the caller's.
        make_protocol: Makes the protocol of a connection.
    """

    def __init__(
        self, listener: socket.socket, make_protocol: Callable[[], asyncio.Protocol]
    ) -> None:
        self._listener = listener.dup()  # a descriptor of its own, to be watched beside the other
        self._listener.setblocking(False)
        self._make_protocol = make_protocol
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to accept."""
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def stop(self) -> None:
        """Accept no more; what was accepted is connected."""
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()

    def _accept(self) -> None:
        for _ in range(_MOST_AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except OSError:  # none is left, or there are too many, of which the server tells
                return
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connecting = self._loop.create_task(self._connect(connection))
            self._connecting.add(connecting)
            connecting.add_done_callback(self._connecting.discard)

    async def _connect(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the caller has left already
            await self._loop.connect_accepted_socket(self._make_protocol, connection)
