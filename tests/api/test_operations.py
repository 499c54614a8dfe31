import re
from pathlib import Path

from httpx import AsyncClient
from prometheus_client.parser import text_string_to_metric_families

from app.gateway.drain import Drain
from app.gateway.runners import ModelVersion
from app.gateway.triton_metrics import TRITON_METRICS
from app.statistics import VersionStatistics
from tests.fakes import LEVELS, FakeRunners

EXAMPLE = Path(__file__).parents[2] / "examples" / "air_passengers.csv"


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


async def test_metrics_speak_tritons_words(client: AsyncClient, runners: FakeRunners) -> None:
    one = VersionStatistics("monthly", 2, inference_count=7, execution_count=3, pending_count=4)
    one.success.record(0.002, count=5)
    one.requests.record((0.001, 0.5, 0.0), count=5)
    one.record_failure(0.1, "REJECTED")
    runners.known_statistics = [one]
    lines = (await client.get("/metrics")).text.splitlines()
    labels = 'model="monthly",version="2"'
    assert f"nv_inference_request_success{{{labels}}} 5" in lines
    assert f"nv_inference_count{{{labels}}} 7" in lines
    assert f"nv_inference_exec_count{{{labels}}} 3" in lines
    assert f"nv_inference_request_duration_us{{{labels}}} 10000" in lines
    assert f"nv_inference_compute_infer_duration_us{{{labels}}} 2500000" in lines
    assert f'nv_inference_request_failure{{{labels},reason="REJECTED"}} 1' in lines
    assert f'nv_inference_request_failure{{{labels},reason="BACKEND"}} 0' in lines
    assert f"nv_inference_pending_request_count{{{labels}}} 4" in lines


async def test_metrics_of_tritons_names_parse(client: AsyncClient, runners: FakeRunners) -> None:
    runners.known_statistics = [VersionStatistics("monthly", 2)]
    families = text_string_to_metric_families((await client.get("/metrics")).text)
    # the parser, as OpenMetrics wants it, lets every counter end in _total
    samples = {s.name.removesuffix("_total") for family in families for s in family.samples}
    assert samples >= TRITON_METRICS


async def test_metrics_do_not_need_a_runner(client: AsyncClient, runners: FakeRunners) -> None:
    runners.is_up = False
    runners.known_statistics = [VersionStatistics("monthly", 2, inference_count=7)]
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert 'nv_inference_count{model="monthly",version="2"} 7' in answer.text


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


async def test_model_tells_how_many_series_share_a_run(
    client: AsyncClient, runners: FakeRunners
) -> None:
    unknown = (await client.get("/v1/models/monthly")).json()["batching"]
    runners.batch_size_caps["monthly", 2] = 8
    known = (await client.get("/v1/models/monthly")).json()["batching"]
    other = (await client.get("/v1/models/monthly/versions/1")).json()["batching"]
    sizes = {"max_batch_size": 16, "max_batch_steps": 32_768}
    assert (unknown, known) == (
        sizes | {"batch_size_cap": None},
        sizes | {"batch_size_cap": 8},
    )
    assert other["batch_size_cap"] is None


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


async def test_model_of_a_runner_that_is_still_to_come_is_not_ready(
    client: AsyncClient, runners: FakeRunners
) -> None:
    runners.is_complete = False
    answer = await client.get("/v1/models/nonsense")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_page_names_no_models_before_a_key_is_given(client: AsyncClient) -> None:
    assert "monthly" not in (await client.get("/")).text


async def test_modules_import_what_is_served(client: AsyncClient) -> None:
    open_names, seen = ["console.js"], set[str]()
    while open_names:
        answer = await client.get(f"/assets/{open_names.pop()}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/javascript")
        found = set(re.findall(r'from "\./([^"]+)"', answer.text)) - seen
        seen |= found
        open_names += found
    assert "uPlot.esm.js" in seen


async def test_asset_that_the_browser_has_is_not_sent_again(client: AsyncClient) -> None:
    first = await client.get("/assets/console.css")
    again = await client.get(
        "/assets/console.css", headers={"If-None-Match": first.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")


async def test_example_of_the_page_is_that_of_the_examples(client: AsyncClient) -> None:
    example = (await client.get("/assets/example.csv")).content
    assert example == EXAMPLE.read_bytes()


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
    for name in ("index.html", "..%2fmain.py", "docs.js%00"):
        assert (await client.get(f"/assets/{name}")).status_code == 404
