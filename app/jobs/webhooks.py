"""Tells owners that their jobs are finished, by the Standard Webhooks specification.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import asyncio
import contextlib
import logging
import random
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime

import h11
import orjson
from standardwebhooks import Webhook

from app.errors import InvalidInputError
from app.jobs.destinations import Destination, DestinationRules, ForbiddenAddressError
from app.jobs.documents import JobDocument
from app.jobs.job import Job
from app.jobs.store import JobStore

RETRY_DELAYS_S: Sequence[float] = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""The specification's example, over three days."""

_JITTER = 0.2
_TIMEOUT_S = 15.0
_READ_BYTES = 2**12
_DELIVERED = range(200, 300)
_GONE = 410
_FAILURES = (
    OSError,
    UnicodeError,  # of the look-up of a name
    h11.ProtocolError,
    ForbiddenAddressError,
    InvalidInputError,
)

logger = logging.getLogger("gatecast.webhooks")


class WebhookSender:
    """Sends what is due, one webhook at a time.

    Args:
        store: Says what is due, and learns what became of it.
        rules: Where webhooks may go.
        secret: Signs them; ``whsec_`` and Base64.
        delays_s: Between one attempt and the next; after the last one the webhook has failed.
        timeout_s: Longest that an attempt may take.
    """

    def __init__(
        self,
        store: JobStore,
        rules: DestinationRules,
        secret: str,
        *,
        delays_s: Sequence[float] = RETRY_DELAYS_S,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        self._store = store
        self._rules = rules
        self._signer = Webhook(secret)
        self._delays_s = delays_s
        self._timeout_s = timeout_s

    async def send_due(self) -> None:
        """Send every webhook whose time has come."""
        while job := await asyncio.to_thread(self._store.next_webhook):
            await self._send(job)

    async def _send(self, job: Job) -> None:
        status = await self._attempt(job)
        if status in _DELIVERED:
            await asyncio.to_thread(self._store.record_webhook, job.job_id, "delivered")
        elif status == _GONE or job.webhook_attempts >= len(self._delays_s):
            logger.warning("job %s: its webhook is given up", job.job_id)
            await asyncio.to_thread(self._store.record_webhook, job.job_id, "failed")
        else:
            delay_s = self._delays_s[job.webhook_attempts]
            delay_s *= 1 + random.uniform(-_JITTER, _JITTER)  # noqa: S311 - spreads load
            await asyncio.to_thread(
                self._store.record_webhook, job.job_id, "pending", retry_after_s=delay_s
            )

    async def _attempt(self, job: Job) -> int | None:
        """Return the status of the answer, whose rest is not looked at; None where none came."""
        try:
            async with asyncio.timeout(self._timeout_s):
                destination = self._rules.parse(job.webhook_url or "")
                address = await self._rules.resolve(destination)
                return await _post(destination, address, *self._sign(job))
        except _FAILURES as error:
            logger.warning("job %s: its webhook was not delivered: %s", job.job_id, error)
            return None

    def _sign(self, job: Job) -> tuple[bytes, dict[str, str]]:
        now = datetime.now(UTC)
        content = {
            "type": f"job.{job.state}",
            "timestamp": now,
            "data": JobDocument.from_job(job).model_dump(),
        }
        body = orjson.dumps(content)
        message_id = f"msg_{job.job_id}"
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "gatecast",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._signer.sign(message_id, now, body.decode()),
        }
        return body, headers


async def _post(
    destination: Destination, address: str, body: bytes, headers: dict[str, str]
) -> int:
    """Post to an address in the name of a host; redirects are answers like any other.

    Raises:
        OSError: There is no connection, or not the host's certificate.
        h11.ProtocolError: What came back is no HTTP.
    """
    is_encrypted = destination.scheme == "https"
    reader, writer = await asyncio.open_connection(
        address,
        destination.port,
        ssl=ssl.create_default_context() if is_encrypted else None,
        server_hostname=destination.host if is_encrypted else None,
    )
    try:
        connection = h11.Connection(h11.CLIENT)
        request = h11.Request(
            method="POST",
            target=destination.target,
            headers=[
                ("Host", destination.authority),
                ("Content-Length", str(len(body))),
                ("Connection", "close"),
                *headers.items(),
            ],
        )
        for event in (request, h11.Data(body), h11.EndOfMessage()):
            writer.write(connection.send(event) or b"")
        await writer.drain()
        return await _read_status(connection, reader)
    finally:
        writer.transport.abort()  # nothing more is expected, not even a farewell
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _read_status(connection: h11.Connection, reader: asyncio.StreamReader) -> int:
    while not isinstance(event := connection.next_event(), h11.Response):
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_READ_BYTES))
        elif not isinstance(event, h11.InformationalResponse):
            raise ConnectionError("the connection was closed without an answer")
    return event.status_code
