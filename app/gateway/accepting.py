"""Takes waiting connections from a listener many at a time.

The event loop itself takes one a turn. A turn of a busy gateway takes milliseconds, so under a
flood of new connections most of them would wait in the kernel's queue, unseen by whoever refuses
work, until that overflows and callers hang.
"""

import asyncio
import itertools
import socket
from collections.abc import Callable, Iterator

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
        for connection in itertools.islice(accept_waiting(self._listener), _MOST_AT_ONCE):
            connecting = self._loop.create_task(connect(connection, self._make_protocol))
            self._connecting.add(connecting)
            connecting.add_done_callback(self._connecting.discard)


def accept_waiting(listener: socket.socket) -> Iterator[socket.socket]:
    """Accept the connections that wait at a listener which does not block."""
    while True:
        try:
            yield listener.accept()[0]
        except ConnectionAbortedError:
            continue
        except OSError:  # none is left, or there are too many, of which the server tells
            return


async def connect(connection: socket.socket, make_protocol: Callable[[], asyncio.Protocol]) -> None:
    """Serve a connection that was accepted, unless its caller has left already."""
    loop = asyncio.get_running_loop()
    try:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.connect_accepted_socket(make_protocol, connection)
    except OSError:
        connection.close()
