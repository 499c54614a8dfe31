"""Streams in a real Redis, beyond what every store does."""

import asyncio
import logging
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
import trustme

from app.errors import StartupError, StreamLostError, StreamNotFoundError, StreamStoreError
from app.gateway.redis_store import RedisStore
from app.gateway.stream_store import StreamKey
from tests.captured_log import captured_log
from tests.redis_server import RedisServer, free_port, running_redis
from tests.stream_stores import KEY, PATIENCE_S, TTL_S, opened, stream
from tests.waiting import until

PASSWORD = "not:to/be@told#" + "é%"
NOWHERE = "redis://127.0.0.1:1"


def store(url: str, ttl_s: float = TTL_S, timeout_s: float = PATIENCE_S) -> RedisStore:
    return RedisStore(url, ttl_s=ttl_s, max_streams=10, timeout_s=timeout_s)


async def test_redis_itself_lets_streams_expire(redis_server: RedisServer) -> None:
    async with opened(store(redis_server.url, ttl_s=0.1)) as kept:
        await kept.put(KEY, stream(1))
        with redis_server.client() as client:
            await until(lambda: not client.keys("*"))
        with pytest.raises(StreamNotFoundError):
            await kept.get(KEY)


async def test_everything_in_redis_expires(redis_server: RedisServer) -> None:
    async with opened(store(redis_server.url)) as kept:
        await kept.put(KEY, stream(1))
        before = await kept.get(KEY)
        redis_server.pass_time(50)
        await kept.append(KEY, before, stream(1, 2), digest=b"", answer=b"")
    with redis_server.client() as client:
        left_s = {name.decode().split(":")[-1]: client.ttl(name) for name in client.scan_iter()}
    assert left_s == {
        "monthly/one": pytest.approx(TTL_S, abs=20),
        "ages": pytest.approx(2 * TTL_S, abs=20),
        "names": pytest.approx(2 * TTL_S, abs=20),
    }


async def test_stream_that_redis_drops_is_lost(redis_server: RedisServer) -> None:
    other = StreamKey("a", "monthly", "other")
    async with opened(store(redis_server.url)) as kept:
        await kept.put(KEY, stream(1))
        await kept.put(other, stream(1))
        with redis_server.client() as client:
            client.delete("gatecast:{streams:a}:stream:monthly/one")
        with pytest.raises(StreamLostError):
            await kept.get(KEY)
        assert [name for name, _ in await kept.read_page("a", "monthly", after="", limit=9)] == [
            "other"
        ]
        assert await kept.put(KEY, stream(1))


async def test_stream_that_can_not_be_read_is_lost(redis_server: RedisServer) -> None:
    async with opened(store(redis_server.url)) as kept:
        await kept.put(KEY, stream(1))
        with redis_server.client() as client:
            client.hset("gatecast:{streams:a}:stream:monthly/one", "record", "something else")
        with pytest.raises(StreamLostError, match="can not be read"):
            await kept.get(KEY)
        assert not await kept.put(KEY, stream(1, 2))
        assert (await kept.get(KEY)).step == 2


async def test_redis_that_goes_and_comes_back_keeps_streams(own_redis: RedisServer) -> None:
    async with opened(store(own_redis.url)) as kept:
        await kept.put(KEY, stream(1))
        own_redis.stop()
        for _ in range(2):
            with pytest.raises(StreamStoreError, match="does not answer") as caught:
                await kept.get(KEY)
            assert caught.value.retry_after_s >= 1
        own_redis.start()
        assert (await kept.get(KEY)).tail.tolist() == [1]


async def test_call_that_is_given_up_mixes_up_no_answers(own_redis: RedisServer) -> None:
    keys = [StreamKey(f"owner{number}", "monthly", "one") for number in range(40)]
    async with opened(store(own_redis.url, timeout_s=3)) as kept:
        for number, key in enumerate(keys):
            await kept.put(key, stream(number))
        own_redis.freeze()
        calls = [asyncio.create_task(kept.get(key)) for key in keys]
        await asyncio.sleep(0.05)
        for call in calls[::2]:  # as when callers leave
            call.cancel()
        given_up = await asyncio.gather(*calls, return_exceptions=True)
        own_redis.thaw()
        assert {type(one) for one in given_up} == {asyncio.CancelledError, StreamStoreError}
        found = await asyncio.gather(*(kept.get(key) for key in keys))
        assert [one.tail.tolist() for one in found] == [[number] for number in range(40)]


async def test_redis_that_forgot_its_scripts_is_told_them_again(redis_server: RedisServer) -> None:
    async with opened(store(redis_server.url)) as kept:
        await kept.put(KEY, stream(1))
        with redis_server.client() as client:
            client.script_flush()
        assert (await kept.get(KEY)).step == 1


async def test_redis_that_takes_nothing_more_is_no_lost_stream(own_redis: RedisServer) -> None:
    async with opened(store(own_redis.url)) as kept:
        await kept.put(KEY, stream(1))
        with own_redis.client() as client:
            client.config_set("maxmemory", "1")
        before = await kept.get(KEY)
        for change in (
            kept.put(KEY, stream(1, 2)),
            kept.append(KEY, before, stream(1, 2), digest=b"", answer=b""),
        ):
            with pytest.raises(StreamStoreError):
                await change
        assert (await kept.get(KEY)).step == 1
        with own_redis.client() as client:
            client.config_set("maxmemory", "0")
        assert not await kept.put(KEY, stream(1, 2))


async def test_password_is_used_and_told_nobody(tmp_path: Path) -> None:
    with (
        running_redis(tmp_path, "--requirepass", PASSWORD) as server,
        captured_log(logging.StreamHandler) as log,
    ):
        address = f"127.0.0.1:{server.port}/1"
        async with opened(store(f"redis://:{quote(PASSWORD, safe='')}@{address}")) as kept:
            assert await kept.put(KEY, stream(1))
        async with opened(store(f"redis://:wrong{quote(PASSWORD, safe='')}@{address}")) as kept:
            with pytest.raises(StreamStoreError) as caught:
                await kept.get(KEY)
        told = f"{log.getvalue()} {caught.value} {kept!r} {vars(kept)!r}"
        assert "AuthenticationError" in told
        assert PASSWORD not in told
        assert quote(PASSWORD, safe="") not in told


async def test_tls_is_spoken_with_a_server_that_is_known(tmp_path: Path) -> None:
    authority, foreign = trustme.CA(), trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(tmp_path / "authority"))
    foreign.cert_pem.write_to_path(str(tmp_path / "foreign"))
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "certificate"))
    port, pem = free_port(), str(tmp_path / "certificate")
    options = ("--tls-port", str(port), "--tls-cert-file", pem, "--tls-key-file", pem)
    with running_redis(tmp_path, *options, "--tls-auth-clients", "no"):
        address = f"rediss://127.0.0.1:{port}?ssl_ca_certs={tmp_path}"
        async with opened(store(f"{address}/authority")) as kept:
            assert await kept.put(KEY, stream(1))
        for url in (f"{address}/foreign", f"rediss://127.0.0.1:{port}"):
            async with opened(store(url)) as kept:
                with pytest.raises(StreamStoreError):
                    await kept.get(KEY)


def test_service_starts_without_its_redis() -> None:
    store(NOWHERE)


@pytest.mark.parametrize(
    "rest",
    [
        "//",
        "//:secret@",
        "//:secret/word@host",
        "//:secret@host:port",
        "//:secret@host:70000",
        "//:secret@host/0#fragment",
        "//:secret@host/name",
        "//:secret@[host",
        "//:secret@host?decode_responses=True",
        "//:secret@host?ssl_ca_certs=file",
    ],
)
def test_wrong_url_is_refused_and_not_repeated(rest: str) -> None:
    with pytest.raises(StartupError, match=r"^GATECAST_STREAM_STORE: a Redis is ") as caught:
        store(f"redis:{rest}")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("option", "reason"),
    [("ssl_ca_certs=none/such", "can not use the cert"), ("ssl_cert_reqs=perhaps", "a Redis is")],
)
def test_certificates_that_can_not_be_used_are_refused(option: str, reason: str) -> None:
    with pytest.raises(StartupError, match=reason):
        store(f"rediss://:secret@host?{option}")


def test_missing_package_is_named() -> None:
    code = (
        "import sys\n"
        "sys.modules['redis'] = None\n"
        "from app.gateway.redis_store import RedisStore\n"
        "from app.errors import StartupError\n"
        "try:\n"
        "    RedisStore('redis://host', ttl_s=1, max_streams=1)\n"
        "except StartupError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(  # noqa: S603 - this interpreter
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "pip install 'gatecast[redis]'" in done.stdout
