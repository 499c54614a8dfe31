"""A listener that is about to be closed."""

import socket
import sys

import pytest

from app.gateway.handshakes import stop_handshakes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a filter of Linux")


def test_no_connection_begins_and_what_began_is_served() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        with (
            socket.create_connection(address) as waiting,
            socket.create_connection(address) as accepted,
        ):
            stop_handshakes(listener)
            with pytest.raises(TimeoutError):
                socket.create_connection(address, timeout=0.2)
            for client in (waiting, accepted):
                client.sendall(b"question")
                with listener.accept()[0] as served:
                    assert served.recv(100) == b"question"
                    served.sendall(b"answer")
                assert client.recv(100) == b"answer"
            listener.settimeout(0.01)
            with pytest.raises(TimeoutError):
                listener.accept()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=3)
