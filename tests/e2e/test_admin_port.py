"""The port for administrators on a real service."""

import dataclasses
from pathlib import Path

from app.keys import create_key
from tests.e2e.client import Client
from tests.e2e.service import Service, serving
from tests.e2e.traffic import Load

LOAD = "/v2/repository/models/none/load"
INDEX = "/v2/repository/index"
NUM_CLIENTS = 20


def inside_of(service: Service) -> Service:
    """Return the service as it is seen from the port for administrators."""
    return dataclasses.replace(service, port=service.admin_port)


async def test_loads_are_taken_on_that_port_only_and_keys_count_there(
    tiny_repository: Path, tmp_path: Path
) -> None:
    admin, plain = create_key(is_admin=True), create_key()
    file = tmp_path / "keys"
    file.write_text(f"{admin.line}\n{plain.line}\n")
    settings = {"admin_port": 0, "gateways": 2, "api_keys_file": file}
    async with (
        serving(tiny_repository, **settings) as service,
        Client(service.port) as outside,
        Client(service.admin_port) as inside,
    ):
        headers = {"x-api-key": admin.text, "host": f"127.0.0.1:{service.admin_port}"}
        assert (await outside.post(LOAD, {}, headers)).status == 404
        assert (await inside.post(LOAD, {}, {"x-api-key": plain.text})).status == 403
        assert (await inside.post(LOAD, {})).status == 401
        assert (await inside.post(LOAD, {}, headers)).status not in {401, 403}
        for client in (outside, inside):
            assert (await client.post(INDEX, {}, headers)).status == 200


async def test_stopping_loses_no_request_on_either_port(tiny_repository: Path) -> None:
    async with serving(tiny_repository, admin_port=0, access_log=False) as service:
        loads = [Load(one, "tiny", NUM_CLIENTS) for one in (service, inside_of(service))]
        for load in loads:
            await load.start()
        status = await service.stop()
        for load in loads:
            await load.finish()
    assert status == 0
    for load in loads:
        assert load.outcomes["lost"] == 0
        assert set(load.outcomes) <= {"200", "refused", "lost"}
