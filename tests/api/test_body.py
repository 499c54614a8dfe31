import asyncio
import gzip
import tracemalloc
from collections.abc import Iterator

import pytest
from backports import zstd
from fastapi import FastAPI

from app.gateway.drain import Drain
from app.gateway.main import create_app
from app.settings import Settings, load_settings
from tests.api.raw import call
from tests.fakes import FakeRunners

BODY = b'{"series": [{"target": [1, 2, 3]}]}'
MEBIBYTE = 2**20


def endless() -> Iterator[bytes]:
    while True:
        yield b" " * 65536


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", 'Application/JSON;charset="UTF-8";v=1'],
)
async def test_json_is_taken(app: FastAPI, content_type: str) -> None:
    assert (await call(app, [BODY], {"content-type": content_type})).status == 200


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/json; charset=utf-16",
        "application/jsonx",
        "multipart/form-data",
    ],
)
async def test_other_content_types_are_415(app: FastAPI, content_type: str) -> None:
    answer = await call(app, [BODY], {"content-type": content_type})
    assert (answer.status, answer.num_chunks_read) == (415, 0)
    assert b"application/json" in answer.body


async def test_gzip_is_taken_in_any_chunks(app: FastAPI) -> None:
    packed = gzip.compress(BODY)
    chunks = [packed[i : i + 1] for i in range(len(packed))]
    assert (await call(app, chunks, {"content-encoding": "gzip"})).status == 200


@pytest.mark.parametrize(
    ("packed", "text"),
    [
        (b"no gzip", "not valid gzip"),
        (gzip.compress(BODY, mtime=0)[:-4], "cut off"),
        (gzip.compress(BODY, mtime=0) + b"more", "goes on"),
        (b"", "cut off"),
    ],
)
async def test_broken_gzip_is_400(app: FastAPI, packed: bytes, text: str) -> None:
    answer = await call(app, [packed], {"content-encoding": "gzip"})
    assert (answer.status, text in answer.body.decode()) == (400, True)


async def test_other_encodings_are_415(app: FastAPI) -> None:
    answer = await call(app, [BODY], {"content-encoding": "br"})
    assert (answer.status, b"gzip" in answer.body) == (415, True)


@pytest.mark.parametrize("length", ["1048577", "104857600", "9" * 30])
async def test_declared_length_over_the_limit_is_refused_unread(app: FastAPI, length: str) -> None:
    answer = await call(app, endless(), {"content-length": length})
    assert (answer.status, answer.num_chunks_read) == (413, 0)
    assert b"1048576 bytes" in answer.body


async def test_body_of_exactly_the_limit_is_read(app: FastAPI) -> None:
    answer = await call(app, [BODY + b" " * (MEBIBYTE - len(BODY))])
    assert answer.status == 200


async def test_endless_body_is_refused_at_the_limit(app: FastAPI) -> None:
    answer = await call(app, endless())
    assert (answer.status, answer.num_chunks_read) == (413, 17)


async def test_hundred_megabytes_and_bombs_leave_memory_flat(app: FastAPI) -> None:
    bomb = gzip.compress(b" " * 100 * MEBIBYTE)
    await call(app, [bomb], {"content-encoding": "gzip"})
    tracemalloc.start()
    statuses = [
        (await call(app, (b" " * 65536 for _ in range(1600)))).status,
        (await call(app, [bomb], {"content-encoding": "gzip"})).status,
    ]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert statuses == [413, 413]
    assert peak < 4 * MEBIBYTE


async def test_slow_body_is_408_and_closes(runners: FakeRunners) -> None:
    app = create_app(load_settings(body_timeout_s=0.05), runners, Drain())
    answer = await call(app, [BODY[:5]], is_complete=False)
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert b"0.05 s" in answer.body


async def test_caller_that_leaves_during_the_body_gets_nothing(
    app: FastAPI, runners: FakeRunners
) -> None:
    left = asyncio.Event()
    left.set()
    answer = await call(app, [BODY], is_complete=False, left=left)
    assert (answer.status, runners.inferences) == (0, [])


async def test_large_body_is_decoded_off_the_loop(runners: FakeRunners) -> None:
    app = create_app(load_settings(), runners, Drain())
    body = b'{"series": [{"target": [%s1]}], "horizon": 1}' % (b"123.5," * 100_000)
    assert (await call(app, [body])).status == 200


async def test_settings_set_the_limit(runners: FakeRunners) -> None:
    settings: Settings = load_settings(max_body_bytes=1024)
    answer = await call(create_app(settings, runners, Drain()), [b" " * 1025])
    assert (answer.status, b"1024 bytes" in answer.body) == (413, True)


def zstd_of(body: bytes, **parameters: int) -> bytes:
    options = {int(zstd.CompressionParameter[name]): value for name, value in parameters.items()}
    return zstd.compress(body, options=options)


TIMEGPT = b'{"series": {"y": [1, 2], "sizes": [2]}, "freq": "MS", "h": 1, "model": "monthly"}'


@pytest.mark.parametrize(
    ("packed", "status"),
    [
        (zstd_of(TIMEGPT), 200),
        (zstd_of(TIMEGPT)[:-3], 400),
        (b"no zstd at all", 400),
        (zstd_of(TIMEGPT) + b"more", 400),
        (zstd_of(b" " * 2 * MEBIBYTE), 413),
        (b"", 400),
    ],
    ids=["sound", "cut off", "other", "more behind", "too large", "empty"],
)
async def test_timegpt_takes_zstd(app: FastAPI, packed: bytes, status: int) -> None:
    answer = await call(app, [packed], {"content-encoding": "zstd"}, path="/v2/forecast")
    assert answer.status == status


async def test_frame_that_asks_for_a_huge_window_is_refused(runners: FakeRunners) -> None:
    app = create_app(load_settings(max_body_bytes=64 * MEBIBYTE), runners, Drain())
    body = b" " * 20 * MEBIBYTE + TIMEGPT
    packed = zstd_of(body, window_log=25, enable_long_distance_matching=1)
    answer = await call(app, [packed], {"content-encoding": "zstd"}, path="/v2/forecast")
    assert (answer.status, b"zstd" in answer.body) == (400, True)


async def test_zstd_bombs_leave_memory_flat(app: FastAPI) -> None:
    bomb = zstd_of(b" " * 100 * MEBIBYTE)
    tracemalloc.start()
    answer = await call(app, [bomb], {"content-encoding": "zstd"}, path="/v2/forecast")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answer.status == 413
    assert peak < 4 * MEBIBYTE


async def test_native_api_takes_no_zstd(app: FastAPI) -> None:
    answer = await call(app, [zstd_of(BODY)], {"content-encoding": "zstd"})
    assert answer.status == 415
