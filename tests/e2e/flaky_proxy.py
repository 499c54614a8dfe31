"""A proxy that fails some requests on their way to a service, as a busy or restarting one does."""

import socket
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import urllib3
from typing_extensions import override

LOST = 0
"""In place of a status: the connection is closed without an answer."""


class FlakyProxy(ThreadingHTTPServer):
    """Answers posts with ``faults`` first, one each, and forwards everything else."""

    daemon_threads = True

    def __init__(self, target: str, max_bytes: int | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target
        self.faults: deque[int] = deque()
        self.max_bytes = max_bytes
        self.num_forwarded = 0
        self.pool = urllib3.PoolManager()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FlakyProxy

    def do_GET(self) -> None:
        self._forward(b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.max_bytes is not None and len(body) > self.server.max_bytes:
            self._answer(413, b'{"error": "too large"}', {})
        elif self.server.faults:
            self._fail(self.server.faults.popleft())
        else:
            self._forward(body)

    def _fail(self, status: int) -> None:
        if status == LOST:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._answer(status, b'{"error": "not now"}', {"Retry-After": "0"})

    def _forward(self, body: bytes) -> None:
        self.server.num_forwarded += 1
        dropped = {"host", "content-length", "connection"}
        headers = {k: v for k, v in self.headers.items() if k.lower() not in dropped}
        answer = self.server.pool.request(
            self.command, self.server.target + self.path, body=body or None, headers=headers
        )
        kept = {k: v for k, v in answer.headers.items() if k.lower() not in dropped}
        self._answer(answer.status, answer.data, kept)

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def flaky_proxy(target: str, max_bytes: int | None = None) -> Iterator[FlakyProxy]:
    """Run a proxy until the block ends."""
    with FlakyProxy(target, max_bytes) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
            proxy.pool.clear()
