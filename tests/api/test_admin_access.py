"""Who may load and unload models, and on which port."""

from pathlib import Path

import pytest
from httpx import ASGITransport, AsyncClient

from app.gateway.access import ACCESS, Access
from app.gateway.drain import Drain
from app.gateway.main import create_app
from app.keys import create_key
from app.settings import load_settings
from tests.fakes import FakeRunners

ADMIN_PORT = 8081
PATHS = [t.format(model_name="none", label="none") for t, a in ACCESS.items() if a is Access.ADMIN]
NOT_LET_IN = {401, 403}


def client_of(runners: FakeRunners, *, port: int = 8080, **settings: object) -> AsyncClient:
    """Return a client that came in through ``port``."""
    transport = ASGITransport(create_app(load_settings(**settings), runners, Drain()))
    return AsyncClient(transport=transport, base_url=f"http://gatecast:{port}")


def write_keys(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "keys"
    path.write_text("\n".join(lines))
    return path


def test_changes_of_models_are_for_administrators() -> None:
    prefix = "/v2/repository/models/none"
    assert set(PATHS) == {f"{prefix}/load", f"{prefix}/unload", f"{prefix}/labels/none"}


@pytest.mark.parametrize("path", PATHS)
async def test_key_without_the_scope_is_forbidden(
    tmp_path: Path, runners: FakeRunners, path: str
) -> None:
    key = create_key("scope=admin")
    client = client_of(runners, api_keys_file=write_keys(tmp_path, key.line))
    answer = await client.post(path, headers={"X-API-Key": key.text})
    assert answer.status_code == 403
    assert "admin scope" in answer.json()["error"]


@pytest.mark.parametrize("path", PATHS)
async def test_key_with_the_scope_is_let_in(
    tmp_path: Path, runners: FakeRunners, path: str
) -> None:
    key = create_key(is_admin=True)
    client = client_of(runners, api_keys_file=write_keys(tmp_path, key.line))
    answer = await client.post(path, headers={"Authorization": f"Bearer {key.text}"})
    assert answer.status_code not in NOT_LET_IN


async def test_key_with_the_scope_does_all_that_others_do(
    tmp_path: Path, runners: FakeRunners
) -> None:
    key = create_key(is_admin=True)
    client = client_of(runners, api_keys_file=write_keys(tmp_path, key.line))
    answer = await client.get("/v1/models", headers={"X-API-Key": key.text})
    assert answer.status_code == 200


@pytest.mark.parametrize("path", PATHS)
async def test_without_keys_programs_are_let_in_and_pages_are_not(
    runners: FakeRunners, path: str
) -> None:
    client = client_of(runners)
    program = await client.post(path)
    page = await client.post(path, headers={"Origin": "http://elsewhere.example"})
    assert program.status_code not in NOT_LET_IN
    assert page.status_code == 403


@pytest.mark.parametrize("path", PATHS)
async def test_another_port_knows_no_loads(runners: FakeRunners, path: str) -> None:
    client = client_of(runners, admin_port=ADMIN_PORT)
    answer = await client.post(path, headers={"Host": f"gatecast:{ADMIN_PORT}"})
    assert answer.status_code == 404
    assert answer.json() == (await client.post("/v2/nothing")).json()


@pytest.mark.parametrize("path", PATHS)
async def test_port_of_administrators_still_asks_for_the_scope(
    tmp_path: Path, runners: FakeRunners, path: str
) -> None:
    key = create_key()
    file = write_keys(tmp_path, key.line)
    client = client_of(runners, port=ADMIN_PORT, admin_port=ADMIN_PORT, api_keys_file=file)
    stranger = await client.post(path)
    known = await client.post(path, headers={"X-API-Key": key.text})
    assert (stranger.status_code, known.status_code) == (401, 403)


@pytest.mark.parametrize("port", [8080, ADMIN_PORT])
async def test_index_is_on_both_ports(runners: FakeRunners, port: int) -> None:
    client = client_of(runners, port=port, admin_port=ADMIN_PORT)
    assert (await client.post("/v2/repository/index")).status_code == 200
