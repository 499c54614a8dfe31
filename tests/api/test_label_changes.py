"""Labels that are set while the service runs, and where they are kept."""

import tomllib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from httpx import ASGITransport, AsyncClient

from app.errors import ConfigError, GatecastError, ModelNotFoundError, ModelRefusedError
from app.gateway.drain import Drain
from app.gateway.label_file import edit_labels
from app.gateway.main import create_app
from app.model_config import LabelChange
from app.settings import load_settings
from tests.fakes import FakeRunners

LABEL = "/v2/repository/models/monthly/labels/canary"
WRITTEN = """\
# how we serve it
max_batch_size = 8  # of 32

[labels]
stable = 1  # since May
"""


def read(path: Path) -> str:
    return path.read_text()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "monthly" / "config.toml"
    path.parent.mkdir()
    path.write_text(WRITTEN)
    return path


@pytest.fixture
def wrong_config(config: Path) -> None:
    config.write_text("max_batch_size = 0")


@pytest_asyncio.fixture
async def client(runners: FakeRunners, config: Path) -> AsyncIterator[AsyncClient]:
    settings = load_settings(model_repository=config.parent.parent, model_control="explicit")
    app = create_app(settings, runners, Drain())
    async with AsyncClient(transport=ASGITransport(app), base_url="http://gatecast") as client:
        yield client


async def test_label_reaches_the_runners_and_the_file(
    client: AsyncClient, runners: FakeRunners, config: Path
) -> None:
    answer = await client.put(LABEL, json={"version": 2, "share": 0.1})
    assert (answer.status_code, answer.json()) == (200, {})
    assert runners.label_changes == [("monthly", LabelChange("canary", 2, 0.1))]
    written = read(config)
    assert written.startswith(WRITTEN)
    assert tomllib.loads(written)["labels"] == {"stable": 1, "canary": 2}
    assert tomllib.loads(written)["traffic"] == {"canary": 0.1}
    assert [path.name for path in config.parent.iterdir()] == ["config.toml"]


async def test_removed_label_leaves_the_file_as_it_was(client: AsyncClient, config: Path) -> None:
    await client.put(LABEL, json={"version": 2, "share": 0.1})
    assert (await client.delete(LABEL)).status_code == 200
    assert tomllib.loads(read(config)) == tomllib.loads(WRITTEN)


async def test_model_without_a_file_gets_one(client: AsyncClient, tmp_path: Path) -> None:
    config = tmp_path / "shop" / "config.toml"
    config.parent.mkdir()
    label = LABEL.replace("monthly", "shop")
    assert (await client.put(label, json={"version": 2})).status_code == 200
    assert tomllib.loads(read(config)) == {"labels": {"canary": 2}}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ModelRefusedError("model monthly version 2 is refused: damaged"), 400),
        (ModelNotFoundError("the model has no such label"), 404),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_the_runners_refuse_is_not_written(
    client: AsyncClient, runners: FakeRunners, config: Path, error: GatecastError, status: int
) -> None:
    runners.error = error
    answer = await client.put(LABEL, json={"version": 2})
    assert (answer.status_code, answer.json()) == (status, {"error": str(error)})
    assert read(config) == WRITTEN
    assert [path.name for path in config.parent.iterdir()] == ["config.toml"]


async def test_label_that_can_not_be_kept_is_not_set(
    client: AsyncClient, runners: FakeRunners, config: Path
) -> None:
    (
        config.parent / ".config.toml.staged"
    ).mkdir()  # as little to be written as on a read-only disk
    answer = await client.put(LABEL, json={"version": 2})
    assert answer.status_code == 501
    assert answer.json()["error"].startswith("the labels of model monthly can not be kept: ")
    assert runners.label_changes == []


@pytest.mark.usefixtures("wrong_config")
async def test_wrong_file_is_left_to_those_who_wrote_it(
    client: AsyncClient, runners: FakeRunners, config: Path
) -> None:
    answer = await client.put(LABEL, json={"version": 2})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("config.toml: max_batch_size: ")
    assert read(config) == "max_batch_size = 0"
    assert runners.label_changes == []


@pytest.mark.parametrize(
    "body",
    [{}, {"version": 0}, {"version": "2"}, {"version": 2, "share": 1.1}, {"version": 2, "x": 1}],
    ids=str,
)
async def test_wrong_bodies_are_refused(client: AsyncClient, body: dict[str, Any]) -> None:
    answer = await client.put(LABEL, json=body)
    assert answer.status_code == 400
    assert "version, a whole number" in answer.json()["error"]


@pytest.mark.parametrize("label", ["2", "_a", "x" * 65, "a%20b", "%2e%2e"])
async def test_wrong_labels_are_refused(
    client: AsyncClient, runners: FakeRunners, label: str
) -> None:
    answer = await client.put(LABEL.replace("canary", label), json={"version": 2})
    assert answer.status_code == 400
    assert runners.label_changes == []


@pytest.mark.parametrize("name", ["none", "..", "%2e%2e"])
async def test_unknown_model_takes_no_label(client: AsyncClient, name: str) -> None:
    answer = await client.put(LABEL.replace("monthly", name), json={"version": 2})
    assert answer.status_code == 404


async def test_name_of_no_model_is_no_label_of_metrics(
    client: AsyncClient, runners: FakeRunners
) -> None:
    unknown = LABEL.replace("monthly", "never-labelled-45")
    await client.put(unknown, json={"version": 2})
    app = create_app(load_settings(), runners, Drain())
    async with AsyncClient(transport=ASGITransport(app), base_url="http://gatecast") as fixed:
        await fixed.put(unknown, json={"version": 2})
    assert "never-labelled" not in (await client.get("/metrics")).text


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_labels_are_not_changed_by_request_where_models_are_fixed(
    runners: FakeRunners, method: str
) -> None:
    app = create_app(load_settings(), runners, Drain())
    async with AsyncClient(transport=ASGITransport(app), base_url="http://gatecast") as client:
        answer = await client.request(method, LABEL, json={"version": 2})
    assert answer.status_code == 501
    assert "GATECAST_MODEL_CONTROL" in answer.json()["error"]


@pytest.mark.parametrize(
    "content", ["labels = {stable = 1}\n", "labels.stable = 1\n", "", "[labels]\n"], ids=str
)
def test_labels_may_be_written_in_any_form(content: str) -> None:
    before = tomllib.loads(content).get("labels", {})
    edited = edit_labels(content, LabelChange("canary", 2, 0.5))
    assert tomllib.loads(edited)["labels"] == before | {"canary": 2}
    removed = tomllib.loads(edit_labels(edited, LabelChange("canary", None)))
    assert (removed.get("labels", {}), removed.get("traffic", {})) == (before, {})


def test_change_that_would_make_the_file_wrong_is_refused() -> None:
    content = edit_labels("", LabelChange("beta", 3, 0.6))
    with pytest.raises(ConfigError, match="more than 1 together"):
        edit_labels(content, replace(LabelChange("canary", 2), share=0.6))
