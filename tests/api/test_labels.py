"""Labels of versions in paths, and their shares of the requests without a version."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from httpx import ASGITransport, AsyncClient

from app.gateway.catalog import Catalog
from app.gateway.drain import Drain
from app.gateway.main import create_app
from app.gateway.runners import ModelVersion
from app.model_config import ModelConfig
from app.settings import load_settings
from tests.fakes import FakeRunners, forecaster, make_card

BODY = {"series": [{"target": [1, 2, 3]}]}
TENSORS = {
    "inputs": [
        {"name": "past_target", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]},
    ],
}
LABELS = {"stable": 1, "canary": 2}


def labelled(*refused: int, **config: Any) -> FakeRunners:
    """Three versions under one config; those of ``refused`` did not load."""
    versions = [forecaster("m", version, make_card()) for version in (1, 2, 3)]
    broken = [ModelVersion("m", version, None, "damaged") for version in refused]
    versions = [v for v in versions if v.model_version not in refused] + broken
    return FakeRunners(*(replace(v, config=ModelConfig(**config)) for v in versions))


def drawn(runners: FakeRunners, count: int = 200, key: str = "") -> Mapping[str | None, int]:
    catalog = Catalog(runners)
    return Counter(catalog.draw("m", key) for _ in range(count))


@pytest.fixture
def runners() -> FakeRunners:
    return labelled(labels=LABELS, traffic={"canary": 0.1})


@pytest_asyncio.fixture
async def client(runners: FakeRunners) -> AsyncIterator[AsyncClient]:
    app = create_app(load_settings(), runners, Drain())
    async with AsyncClient(transport=ASGITransport(app), base_url="http://gatecast") as client:
        yield client


@pytest.mark.parametrize(("label", "version"), [("stable", 1), ("canary", 2), ("3", 3)])
async def test_label_stands_for_its_version_in_native_paths(
    client: AsyncClient, label: str, version: int
) -> None:
    path = f"/v1/models/m/versions/{label}"
    forecast = (await client.post(f"{path}/forecast", json=BODY)).json()
    described = (await client.get(path)).json()
    assert (forecast["model_version"], described["model_version"]) == (version, version)


@pytest.mark.parametrize("end", ["", "/ready", "/config", "/stats"])
async def test_label_stands_for_its_version_in_paths_of_v2(client: AsyncClient, end: str) -> None:
    by_label = await client.get(f"/v2/models/m/versions/canary{end}")
    by_number = await client.get(f"/v2/models/m/versions/2{end}")
    assert by_label.status_code == 200
    assert by_label.json() == by_number.json()


async def test_answer_names_the_version_and_not_the_label(client: AsyncClient) -> None:
    answer = await client.post("/v2/models/m/versions/canary/infer", json=TENSORS)
    assert answer.json()["model_version"] == "2"


async def test_unknown_label_is_404_and_says_what_there_is(client: AsyncClient) -> None:
    answer = await client.post("/v1/models/m/versions/beta/forecast", json=BODY)
    assert answer.status_code == 404
    assert answer.json()["detail"].endswith("it has 1, 2, 3 and the labels canary (2), stable (1)")


async def test_label_of_a_version_that_is_not_ready_is_503() -> None:
    app = create_app(load_settings(), labelled(2, labels=LABELS), Drain())
    async with AsyncClient(transport=ASGITransport(app), base_url="http://gatecast") as client:
        answer = await client.post("/v1/models/m/versions/canary/forecast", json=BODY)
    assert answer.status_code == 503
    assert "version 2 is not ready: damaged" in answer.json()["detail"]


async def test_requests_without_a_version_are_divided_as_the_shares_say(
    client: AsyncClient,
) -> None:
    answers = [await client.post("/v1/models/m/forecast", json=BODY) for _ in range(50)]
    answers += [await client.post("/v2/models/m/infer", json=TENSORS) for _ in range(50)]
    counts = Counter(str(answer.json()["model_version"]) for answer in answers)
    assert counts.keys() == {"1", "2"}
    assert 8 <= counts["2"] <= 12


@pytest.mark.parametrize("share", [0.01, 0.1, 0.25, 0.5, 0.99])
def test_any_run_of_requests_holds_the_shares(share: float) -> None:
    catalog = Catalog(labelled(labels=LABELS, traffic={"canary": share}))
    turns = [catalog.draw("m") == "2" for _ in range(1000)]
    for start in range(0, 800, 100):
        assert abs(sum(turns[start : start + 200]) - 200 * share) <= 3


def test_several_labels_have_shares_of_their_own() -> None:
    shares = {"canary": 0.3, "beta": 0.2}
    counts = drawn(labelled(labels=LABELS | {"beta": 3}, traffic=shares), 1000)
    assert abs(counts["2"] - 300) <= 3
    assert abs(counts["3"] - 200) <= 3
    assert counts["1"] == 1000 - counts["2"] - counts["3"]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_share_of_nothing_and_of_all_are_exact(share: float) -> None:
    version = "2" if share else "1"
    assert drawn(labelled(labels=LABELS, traffic={"canary": share})) == {version: 200}


def test_equal_keys_meet_one_version_and_many_keys_are_divided(runners: FakeRunners) -> None:
    chosen: Counter[str | None] = Counter()
    for number in range(1000):
        (version,) = drawn(runners, 3, key=f"customer {number}")
        chosen[version] += 1
    assert 70 <= chosen["2"] <= 130


async def test_key_of_the_header_is_the_callers_choice(
    client: AsyncClient, runners: FakeRunners
) -> None:
    for number in range(20):
        headers = {"X-Traffic-Key": str(number)}
        answers = [
            await client.post("/v1/models/m/forecast", json=BODY, headers=headers) for _ in range(2)
        ]
        (version,) = drawn(runners, 1, key=str(number))
        assert {str(a.json()["model_version"]) for a in answers} == {version}


async def test_share_of_a_version_that_is_not_ready_goes_to_the_rest() -> None:
    runners = labelled(2, labels=LABELS, traffic={"canary": 0.5})
    assert drawn(runners) == {"1": 200}
    (model,) = Catalog(runners).models()
    assert [model.share_of(version) for version in (1, 2, 3)] == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("labels", "traffic", "default"),
    [
        ({}, {}, 3),
        ({"stable": 1}, {}, 1),
        ({"old": 1}, {}, 3),
        ({"canary": 3}, {"canary": 0.1}, 2),
        ({"stable": 9}, {}, 3),
        ({"a": 1, "b": 2, "c": 3}, {"a": 0.1, "b": 0.1, "c": 0.1}, 3),
    ],
    ids=str,
)
def test_default_is_stable_else_the_newest_without_a_share(
    labels: dict[str, int], traffic: dict[str, float], default: int
) -> None:
    (model,) = Catalog(labelled(labels=labels, traffic=traffic)).models()
    assert model.default.model_version == default


async def test_index_and_list_show_labels_and_shares(client: AsyncClient) -> None:
    index = (await client.post("/v2/repository/index")).json()
    (model,) = (await client.get("/v1/models")).json()["models"]
    want = [(["stable"], 0.9), (["canary"], 0.1), ([], 0.0)]
    assert [(entry["labels"], entry["share"]) for entry in index] == want
    assert [(version["labels"], version["share"]) for version in model["versions"]] == want
    assert model["model_version"] == 1


async def test_index_says_why_a_new_config_does_not_count() -> None:
    sound = replace(forecaster("m", 1, make_card()), config_refusal="config.toml: no TOML")
    app = create_app(load_settings(), FakeRunners(sound), Drain())
    async with AsyncClient(transport=ASGITransport(app), base_url="http://gatecast") as client:
        (entry,) = (await client.post("/v2/repository/index")).json()
    assert (entry["state"], entry["reason"]) == ("READY", "config.toml: no TOML")


async def test_requests_of_one_sequence_meet_one_version() -> None:
    runners = labelled(labels=LABELS, traffic={"canary": 0.5})
    app = create_app(load_settings(), runners, Drain())
    met: dict[int, set[str]] = {}
    async with AsyncClient(transport=ASGITransport(app), base_url="http://gatecast") as client:
        for number in [*range(1, 21)] * 2:
            asked = TENSORS | {"parameters": {"sequence_id": number, "sequence_start": True}}
            answer = await client.post("/v2/models/m/infer", json=asked)
            met.setdefault(number, set()).add(answer.json()["model_version"])
    assert all(len(versions) == 1 for versions in met.values())
    assert set.union(*met.values()) == {"1", "2"}


async def test_config_of_a_model_shows_its_own_limits() -> None:
    runners = labelled(max_batch_size=4, priority_levels=9, versions={"latest": 3})
    app = create_app(load_settings(), runners, Drain())
    async with AsyncClient(transport=ASGITransport(app), base_url="http://gatecast") as client:
        config = (await client.get("/v2/models/m/config")).json()
    assert config["max_batch_size"] == 4
    assert config["dynamic_batching"]["priority_levels"] == 9
    assert config["version_policy"] == {"latest": {"num_versions": 3}}


async def test_requests_are_cut_to_the_batches_of_their_model() -> None:
    runners = labelled(max_batch_size=2)
    app = create_app(load_settings(), runners, Drain())
    async with AsyncClient(transport=ASGITransport(app), base_url="http://gatecast") as client:
        await client.post("/v1/models/m/forecast", json={"series": BODY["series"] * 5})
    sizes = [len(inference.inputs["past_target"]) for inference in runners.inferences]
    assert sorted(sizes) == [1, 2, 2]
