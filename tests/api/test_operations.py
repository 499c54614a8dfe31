import re

from httpx import AsyncClient

from app.gateway.drain import Drain
from app.gateway.runner_client import ModelVersion
from tests.fakes import LEVELS, FakeRunners, forecaster, make_card


async def test_liveness_does_not_depend_on_runners(
    client: AsyncClient, runners: FakeRunners
) -> None:
    runners.is_up = False
    answer = await client.get("/livez")
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


async def test_ready_service_says_so(client: AsyncClient) -> None:
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"is_ready": True, "reason": ""})


async def test_without_runners_it_is_not_ready(client: AsyncClient, runners: FakeRunners) -> None:
    runners.is_up = False
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()["reason"]) == (503, "no runner is up")


async def test_without_a_sound_model_it_is_not_ready(
    client: AsyncClient, runners: FakeRunners
) -> None:
    runners.versions = [ModelVersion("broken", 1, None, "damaged")]
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()["reason"]) == (503, "no model is ready")


async def test_draining_service_is_not_ready(client: AsyncClient, drain: Drain) -> None:
    drain.begin()
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "shutting down" in answer.json()["reason"]


async def test_metrics_are_in_prometheus_form(client: AsyncClient) -> None:
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "# TYPE gatecast_requests_total counter" in answer.text


async def test_models_are_listed_with_versions_and_reasons(client: AsyncClient) -> None:
    models = (await client.get("/v1/models")).json()["models"]
    monthly = next(model for model in models if model["model_name"] == "monthly")
    assert [model["model_name"] for model in models] == ["broken", "free", "monthly", "shop"]
    assert (monthly["model_version"], monthly["is_ready"]) == (2, True)
    assert [v["is_ready"] for v in monthly["versions"]] == [True, True, False]
    assert "damaged" in monthly["versions"][2]["reason"]


async def test_model_tells_card_accuracy_and_limits(client: AsyncClient) -> None:
    model = (await client.get("/v1/models/monthly")).json()
    assert model["card"]["accuracy"][0]["mase"] == 0.9
    assert model["card"]["inputs"][0]["name"] == "past_target"
    assert model["card"]["quantile_levels"] == list(LEVELS)
    assert model["limits"]["max_series"] == 1000


async def test_version_that_did_not_load_tells_why(client: AsyncClient) -> None:
    model = (await client.get("/v1/models/monthly/versions/3")).json()
    assert (model["is_ready"], model["card"]) == (False, None)
    assert "damaged" in model["reason"]


async def test_unknown_model_and_version_are_404(client: AsyncClient) -> None:
    answers = [
        await client.get("/v1/models/nope"),
        await client.get("/v1/models/monthly/versions/9"),
    ]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert "it has 1, 2, 3" in answers[1].json()["detail"]


async def test_front_page_shows_models_and_readiness(client: AsyncClient) -> None:
    page = (await client.get("/")).text
    assert "The service is ready." in page
    assert 'href="v1/models/monthly"' in page
    assert 'href="docs"' in page


async def test_front_page_escapes_what_models_say(
    client: AsyncClient, runners: FakeRunners
) -> None:
    runners.versions = [
        ModelVersion("monthly", 1, None, "<script>alert(1)</script>"),
        forecaster("x", 1, make_card(freq='"><b>')),
    ]
    page = (await client.get("/")).text
    assert "<script>" not in page
    assert "<b>" not in page


async def test_front_page_without_runners_tells_so(
    client: AsyncClient, runners: FakeRunners
) -> None:
    runners.is_up = False
    assert "not ready: no runner is up" in (await client.get("/")).text


async def test_pages_load_nothing_from_elsewhere(client: AsyncClient) -> None:
    for path in ("/", "/docs"):
        page = (await client.get(path)).text
        links = re.findall(r'(?:src|href)="([^"]*)"', page)
        assert links
        assert not [link for link in links if "//" in link]


async def test_pages_have_all_they_load(client: AsyncClient) -> None:
    for path in ("/", "/docs"):
        assets = re.findall(r'"(assets/[^"]*)"', (await client.get(path)).text)
        answers = [await client.get(f"/{asset}") for asset in assets]
        assert answers
        assert all(answer.status_code == 200 and answer.content for answer in answers)


async def test_unlisted_assets_are_404(client: AsyncClient) -> None:
    for name in ("home.html", "..%2fmain.py", "docs.js%00"):
        assert (await client.get(f"/assets/{name}")).status_code == 404
