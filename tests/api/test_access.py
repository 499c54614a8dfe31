import asyncio
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from starlette.routing import BaseRoute, Mount, Route

from app.errors import StartupError
from app.gateway.access import ACCESS, Access, check_access_table
from app.gateway.drain import Drain
from app.gateway.main import create_app
from app.keys import KeyRing, NewKey, create_key
from app.keys_command import keys
from app.settings import load_settings
from tests.api.raw import call
from tests.fakes import FakeRunners, ManualClock


@pytest.fixture
def key() -> NewKey:
    return create_key("the till")


@pytest.fixture
def keys_file(tmp_path: Path, key: NewKey) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"# who may call\n\n{key.line}\n")
    return path


@pytest.fixture
def locked(keys_file: Path, runners: FakeRunners) -> FastAPI:
    return create_app(load_settings(api_keys_file=keys_file), runners, Drain())


@pytest.fixture
def stranger(locked: FastAPI) -> AsyncClient:
    return AsyncClient(transport=ASGITransport(locked), base_url="http://gatecast")


def example_path(template: str) -> str:
    values = {
        "model_name": "monthly",
        "model_version": "1",
        "asset_name": "docs.js",
        "job_id": "7",
        "label": "stable",
        "stream_id": "one",
    }
    return template.format(**values)


@pytest.mark.parametrize(
    "template", [t for t, access in ACCESS.items() if access is not Access.PUBLIC]
)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS", "DELETE"])
async def test_guarded_route_is_401_by_any_method(
    stranger: AsyncClient, template: str, method: str
) -> None:
    answer = await stranger.request(method, example_path(template))
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("template", [t for t, access in ACCESS.items() if access is Access.PUBLIC])
async def test_public_route_needs_no_key(stranger: AsyncClient, template: str) -> None:
    assert (await stranger.get(example_path(template))).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "//v1/models",
        "/v1//models",
        "/v1/models/",
        "/V1/models",
        "/livez/../v1/models",
        "/v1%2fmodels",
    ],
)
async def test_other_spellings_of_a_guarded_path_give_nothing(
    stranger: AsyncClient, path: str
) -> None:
    assert (await stranger.get(f"http://gatecast{path}")).status_code in {401, 404}


async def test_host_header_does_not_decide(stranger: AsyncClient) -> None:
    answer = await stranger.get("/v1/models", headers={"Host": "gatecast/livez?"})
    assert answer.status_code == 401


async def test_bearer_key_is_let_in(stranger: AsyncClient, key: NewKey) -> None:
    headers = {"Authorization": f"bearer {key.text}"}
    assert (await stranger.get("/v1/models", headers=headers)).status_code == 200


async def test_key_header_is_let_in(stranger: AsyncClient, key: NewKey) -> None:
    answer = await stranger.get("/v1/models", headers={"X-API-Key": key.text})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "text", ["", "gc_", "gc_00000000_" + "x" * 43, "{text}x", "{line}", "Kéy", "gc_{digest}"]
)
async def test_other_keys_are_refused(stranger: AsyncClient, key: NewKey, text: str) -> None:
    wrong = text.format(text=key.text, line=key.line, digest=key.line.split()[1])
    headers = [(b"Authorization", f"Bearer {wrong}".encode())]
    assert (await stranger.get("/v1/models", headers=headers)).status_code == 401


async def test_body_of_a_stranger_is_not_read(locked: FastAPI) -> None:
    answer = await call(locked, [b"x"] * 100)
    assert (answer.status, answer.num_chunks_read) == (401, 0)


async def test_front_page_names_no_models_where_keys_guard_them(stranger: AsyncClient) -> None:
    assert "monthly" not in (await stranger.get("/")).text


def test_missing_route_fails_the_start() -> None:
    routes: list[BaseRoute] = [Route("/new", example_path)]
    with pytest.raises(StartupError, match="no entry for /new"):
        check_access_table(routes, {})


def test_stale_entry_fails_the_start() -> None:
    with pytest.raises(StartupError, match="no route for /old"):
        check_access_table([], {"/old": Access.PUBLIC})


def test_mount_fails_the_start() -> None:
    with pytest.raises(StartupError, match="no mount"):
        check_access_table([Mount("/static", routes=[])], {"/static": Access.PUBLIC})


def test_keys_file_that_changes_is_read_again(keys_file: Path, key: NewKey) -> None:
    clock, second = ManualClock(), create_key()
    ring = KeyRing(keys_file, clock)
    keys_file.write_text(f"{second.line}\n")
    assert ring.identify(key.text) is not None
    clock.now = 2.0
    assert ring.identify(key.text) is None
    found = ring.identify(second.text)
    assert found is not None
    assert found.key_id == second.line.split()[0]


@pytest.mark.parametrize("content", [None, "broken line\n"])
def test_keys_file_that_breaks_changes_nothing(
    keys_file: Path, key: NewKey, content: str | None
) -> None:
    clock = ManualClock()
    ring = KeyRing(keys_file, clock)
    keys_file.unlink() if content is None else keys_file.write_text(content)
    clock.now = 2.0
    assert ring.identify(key.text) is not None


@pytest.mark.parametrize(
    "line",
    [
        "abcd",
        "abcd 12",
        "zz " + "0" * 64,
        "abcd " + "0" * 63,
        "abcd:root " + "0" * 64,
        "abcd: " + "0" * 64,
    ],
)
def test_broken_keys_file_fails_the_start(tmp_path: Path, line: str) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# keys\n{line}\n")
    with pytest.raises(StartupError, match="line 2"):
        KeyRing(path)


def test_key_id_given_twice_fails_the_start(tmp_path: Path, key: NewKey) -> None:
    path = tmp_path / "keys"
    path.write_text(f"{key.line}\n{key.line}\n")
    with pytest.raises(StartupError, match="line 2"):
        KeyRing(path)


def test_missing_keys_file_fails_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="can not read"):
        KeyRing(tmp_path / "none")


def test_command_makes_a_key_that_is_let_in(tmp_path: Path) -> None:
    result = CliRunner().invoke(keys, ["create", "--comment", "the till"])
    text, line = result.stdout.split("\n")[:2]
    path = tmp_path / "keys"
    path.write_text(line + os.linesep)
    found = KeyRing(path).identify(text)
    assert found is not None
    assert (found.key_id, found.is_admin) == (line.split()[0], False)
    assert line.endswith(" the till")
    assert text not in line


def test_command_makes_a_key_with_the_admin_scope(tmp_path: Path) -> None:
    text, line = CliRunner().invoke(keys, ["create", "--admin"]).stdout.split("\n")[:2]
    path = tmp_path / "keys"
    path.write_text(f"{line}\n")
    found = KeyRing(path).identify(text)
    assert found is not None
    assert found.is_admin


@pytest.mark.parametrize("comment", ["admin", ":admin", "scope=admin"])
def test_no_comment_gives_the_admin_scope(tmp_path: Path, comment: str) -> None:
    key, path = create_key(comment), tmp_path / "keys"
    path.write_text(f"{key.line}\n")
    found = KeyRing(path).identify(key.text)
    assert found is not None
    assert not found.is_admin


async def test_log_line_names_the_key_but_not_its_secret(
    locked: FastAPI, key: NewKey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "gatecast.access")
    await asyncio.wait_for(call(locked, [b"{}"], {"x-api-key": key.text}), 5)
    (record,) = caplog.records
    assert vars(record)["key_id"] == key.line.split()[0]
    assert key.text.split("_", 2)[2] not in str(vars(record))
