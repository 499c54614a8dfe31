"""A real Redis on a free port of loopback, started and stopped by the test."""

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

_SKIP_REASON = "no redis-server on this machine: apt-get install redis-server runs these tests"
_STARTUP_TIMEOUT_S = 20.0


class RedisServer:
    """One Redis, which keeps what it is told in ``directory``."""

    def __init__(self, directory: Path, *options: str) -> None:
        self._directory = directory
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, on the same port each time, and return once it answers."""
        program = shutil.which("redis-server")
        assert program is not None
        self._process = subprocess.Popen(  # noqa: S603 - the system's
            [program, "--port", str(self.port), "--bind", "127.0.0.1",
             "--dir", str(self._directory), "--save", "", "--appendonly", "yes",
             "--appendfsync", "always", "--logfile", "log", *self._options],
        )  # fmt: skip
        end = time.monotonic() + _STARTUP_TIMEOUT_S
        while not self._accepts():
            log = self._directory / "log"
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < end
            time.sleep(0.01)

    def stop(self) -> None:
        """End it in an orderly way; what it keeps is there at the next start."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(_STARTUP_TIMEOUT_S)

    def freeze(self) -> None:
        """Let it answer nothing, with its connections open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after ``freeze``."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def clear(self) -> None:
        """Forget everything."""
        with self.client() as client:
            client.flushall()

    def pass_time(self, seconds: float) -> None:
        """Make everything of streams older, as if that time had passed."""
        with self.client() as client:
            for name in client.scan_iter(match="gatecast:*"):
                left = client.pttl(name)
                if name.endswith(b":ages"):
                    ages: Any = client.zrange(name, 0, -1, withscores=True)
                    client.zadd(name, {one: age_ms - seconds * 1000 for one, age_ms in ages})
                client.pexpire(name, round(left - seconds * 1000))

    @contextmanager
    def client(self, password: str | None = None) -> Iterator[redis.Redis]:
        client = redis.Redis.from_url(self.url, password=password, protocol=2)
        try:
            yield client
        finally:
            client.close()

    def _accepts(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.exceptions.AuthenticationError:
            return True
        except redis.exceptions.RedisError:
            return False


@contextmanager
def running_redis(directory: Path, *options: str) -> Iterator[RedisServer]:
    """Run a Redis until the block ends; the test is skipped where there is none to run."""
    if shutil.which("redis-server") is None:
        pytest.skip(_SKIP_REASON)
    server = RedisServer(directory, *options)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def free_port() -> int:
    """Return a port of loopback on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
