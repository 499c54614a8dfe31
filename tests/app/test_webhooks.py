"""Webhooks: what is sent, how it is signed, and when it is sent again."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme
from standardwebhooks import Webhook

from app.jobs.destinations import DestinationRules
from app.jobs.job import Job, NewJob, Progress
from app.jobs.store import JobStore
from app.jobs.webhooks import WebhookSender
from tests.app.test_job_store import OPTIONS
from tests.fakes import ManualClock

SECRET = "whsec_" + "A" * 32
DELAYS_S = (5, 300)


@dataclass
class Receiver:
    """Answers every request with the next status, the last one again and again."""

    statuses: list[int] = field(default_factory=lambda: [204])
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    port: int = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:])
        }
        body = await reader.readexactly(int(headers["content-length"]))
        self.requests.append((headers, body))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        location = f"Location: http://127.0.0.1:{self.port}/other\r\n"
        writer.write(f"HTTP/1.1 {status} Any\r\n{location}Content-Length: 0\r\n\r\n".encode())
        writer.close()


@asynccontextmanager
async def receiving(
    *statuses: int, certificate: trustme.LeafCert | None = None
) -> AsyncIterator[Receiver]:
    receiver = Receiver(list(statuses) or [204])
    context = None
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate.configure_cert(context)
    server = await asyncio.start_server(receiver.answer, "127.0.0.1", 0, ssl=context)
    receiver.port = server.sockets[0].getsockname()[1]
    async with server:
        yield receiver


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(tmp_path: Path, clock: ManualClock) -> JobStore:
    return JobStore(tmp_path, max_unfinished=9, clock=clock)


def finish_job(store: JobStore, url: str) -> None:
    new = NewJob(job_id="7", owner="a", options=OPTIONS, fingerprint="f", webhook_url=url)
    store.add(new)
    store.claim()
    store.finish("7", Progress(2, 0, 2))


def sender(
    store: JobStore, rules: DestinationRules | None = None, timeout_s: float = 15.0
) -> WebhookSender:
    rules = rules or DestinationRules(("127.0.0.1",))
    return WebhookSender(store, rules, SECRET, delays_s=DELAYS_S, timeout_s=timeout_s)


def found(store: JobStore) -> Job:
    return store.find("7", "a")


async def test_finished_job_is_told_once_and_signed(store: JobStore) -> None:
    async with receiving() as receiver:
        finish_job(store, f"http://127.0.0.1:{receiver.port}/hook?id=1")
        await sender(store).send_due()
        await sender(store).send_due()
    ((headers, body),) = receiver.requests
    content = json.loads(body)
    Webhook(SECRET).verify(body, headers)
    assert content["type"] == "job.succeeded"
    assert (content["data"]["job_id"], content["data"]["num_done"]) == ("7", 2)
    assert headers["webhook-id"] == "msg_7"
    assert headers["host"] == f"127.0.0.1:{receiver.port}"
    assert (found(store).webhook_state, found(store).webhook_attempts) == ("delivered", 1)


async def test_failure_is_tried_again_later_with_the_same_id(
    store: JobStore, clock: ManualClock
) -> None:
    async with receiving(500, 204) as receiver:
        finish_job(store, f"http://127.0.0.1:{receiver.port}/")
        await sender(store).send_due()
        assert len(receiver.requests) == 1
        clock.now += 2 * DELAYS_S[0]
        await sender(store).send_due()
    assert [headers["webhook-id"] for headers, _ in receiver.requests] == ["msg_7"] * 2
    assert found(store).webhook_state == "delivered"


async def test_failures_are_given_up_at_last(store: JobStore, clock: ManualClock) -> None:
    async with receiving(503) as receiver:
        finish_job(store, f"http://127.0.0.1:{receiver.port}/")
        for _ in range(5):
            await sender(store).send_due()
            clock.now += 1000
    assert len(receiver.requests) == 1 + len(DELAYS_S)
    assert found(store).webhook_state == "failed"


async def test_redirect_is_not_followed(store: JobStore) -> None:
    async with receiving(307) as receiver:
        finish_job(store, f"http://127.0.0.1:{receiver.port}/")
        await sender(store).send_due()
    assert len(receiver.requests) == 1
    assert found(store).webhook_state == "pending"


async def test_receiver_that_is_gone_for_good_is_left_alone(store: JobStore) -> None:
    async with receiving(410) as receiver:
        finish_job(store, f"http://127.0.0.1:{receiver.port}/")
        await sender(store).send_due()
    assert found(store).webhook_state == "failed"


async def test_receiver_that_is_away_is_tried_again(store: JobStore) -> None:
    async with receiving() as receiver:
        port = receiver.port
    finish_job(store, f"http://127.0.0.1:{port}/")
    await sender(store).send_due()
    assert found(store).webhook_state == "pending"


async def test_silent_receiver_costs_only_its_time(store: JobStore) -> None:
    silent = asyncio.Event()

    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with server:
        finish_job(store, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        await sender(store, timeout_s=0.2).send_due()
        silent.set()
    assert found(store).webhook_state == "pending"


@pytest.mark.parametrize("junk", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 banana\r\n\r\n"])
async def test_receiver_that_speaks_no_http_is_tried_again(store: JobStore, junk: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(junk)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        finish_job(store, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        await sender(store).send_due()
    assert found(store).webhook_state == "pending"


async def test_name_that_can_not_be_looked_up_is_tried_again(store: JobStore) -> None:
    async def look_up(_host: str, _port: int) -> list[str]:
        raise UnicodeError("label empty or too long")

    finish_job(store, "https://example.com/")
    await sender(store, DestinationRules((), look_up)).send_due()
    assert (found(store).webhook_state, found(store).webhook_attempts) == ("pending", 1)


async def test_name_that_now_leads_inside_is_not_connected_to(store: JobStore) -> None:
    async def look_up(_host: str, _port: int) -> list[str]:
        return ["127.0.0.1"]

    async with receiving() as receiver:
        finish_job(store, f"https://example.com:{receiver.port}/")
        await sender(store, DestinationRules((), look_up)).send_due()
    assert receiver.requests == []
    assert found(store).webhook_state == "pending"


@pytest.mark.parametrize(
    ("name", "is_trusted", "state"),
    [
        ("127.0.0.1", True, "delivered"),
        ("127.0.0.1", False, "pending"),
        ("hooks.example.com", True, "pending"),
    ],
    ids=["good", "unknown authority", "other host"],
)
async def test_encrypted_receiver_must_prove_who_it_is(
    store: JobStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    is_trusted: bool,
    state: str,
) -> None:
    authority, trusted = trustme.CA(), tmp_path / "authorities.pem"
    (authority if is_trusted else trustme.CA()).cert_pem.write_to_path(trusted)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    async with receiving(certificate=authority.issue_cert(name)) as receiver:
        finish_job(store, f"https://127.0.0.1:{receiver.port}/hook")
        await sender(store).send_due()
    assert found(store).webhook_state == state
    assert len(receiver.requests) == (state == "delivered")
