"""Requests of other forecast APIs, answered in their shape with the native API's numbers."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient

from app.errors import StartupError
from app.gateway.drain import Drain
from app.gateway.main import create_app
from app.gateway.runners import ModelVersion
from app.interface import Interface
from app.settings import load_settings
from app.tensors import Tensors
from tests.fakes import FakeRunners, forecaster, make_card

FIRST, SECOND = [5.5, 6.25, 7.125], [30.0, 40.0]
PATHS = {
    "timegpt": "/v2/forecast",
    "sagemaker": "/invocations",
    "vertex": "/predict",
    "kserve": "/v1/timeseries/forecast",
}


def serve(*versions: ModelVersion, **settings: object) -> AsyncClient:
    """Return a client of an application with these models; ``monthly`` where there are none."""
    runners = FakeRunners(*(versions or (forecaster("monthly", 1, make_card()),)))
    app = create_app(load_settings(**settings), runners, Drain())
    return AsyncClient(transport=ASGITransport(app), base_url="http://gatecast")


async def native(
    client: AsyncClient, *targets: list[Any], levels: list[float], **fields: Any
) -> list[dict[str, list[float]]]:
    """Ask the native API, and return the quantiles of each series."""
    body = {"series": [{"target": t} for t in targets], "quantile_levels": levels} | fields
    answer = await client.post("/v1/models/monthly/forecast", json=body)
    return [one["quantiles"] for one in answer.json()["forecasts"]]


def timegpt(
    *, values: list[Any] | None = None, sizes: list[int] | None = None, **fields: Any
) -> Any:
    y = FIRST + SECOND if values is None else values
    return {"series": {"y": y, "sizes": sizes or [3, 2]}, "freq": "MS", "h": 2} | fields


async def test_timegpt_forecast_is_the_native_one_laid_flat() -> None:
    async with serve() as client:
        want = await native(client, FIRST, SECOND, levels=[0.1, 0.5, 0.9], horizon=2)
        answer = (await client.post("/v2/forecast", json=timegpt(level=[80, 80]))).json()
    assert answer["mean"] == want[0]["0.5"] + want[1]["0.5"]
    assert answer["intervals"] == {
        "lo-80": want[0]["0.1"] + want[1]["0.1"],
        "hi-80": want[0]["0.9"] + want[1]["0.9"],
    }
    assert (answer["weights_x"], answer["feature_contributions"]) == (None, None)
    assert (answer["input_tokens"], answer["output_tokens"]) == (5, 4)


async def test_timegpt_without_levels_has_no_intervals() -> None:
    async with serve() as client:
        answer = (await client.post("/v2/forecast", json=timegpt())).json()
    assert answer["intervals"] is None


async def test_timegpt_cross_validation_forecasts_from_its_origins() -> None:
    values = [float(n * n) for n in range(10)]
    body = timegpt(values=values, sizes=[10], n_windows=2, step_size=3, level=[80])
    async with serve() as client:
        want = await native(client, values[:5], values[:8], levels=[0.1, 0.5, 0.9], horizon=2)
        answer = (await client.post("/v2/cross_validation", json=body)).json()
    assert answer["idxs"] == [5, 6, 8, 9]
    assert answer["sizes"] == [4]
    assert answer["mean"] == want[0]["0.5"] + want[1]["0.5"]
    assert answer["intervals"]["hi-80"] == want[0]["0.9"] + want[1]["0.9"]


async def test_timegpt_history_is_forecast_in_windows_that_touch() -> None:
    card = make_card(season=2, horizon=12)
    body = timegpt(values=[1.0] * 9 + [2.0, 3.0], sizes=[9, 2], full_history=True)
    async with serve(forecaster("monthly", 1, card)) as client:
        answer = (await client.post("/v2/cross_validation", json=body)).json()
    assert answer["idxs"] == [4, 5, 6, 7, 8, 10]
    assert answer["sizes"] == [5, 1]


async def test_timegpt_anomaly_is_a_value_outside_its_interval() -> None:
    values = [1.0, 2, 3, 4, 5, 6, 7, 99, 9, None]
    body = {"series": {"y": values, "sizes": [10]}, "freq": "MS", "level": 80}
    card = make_card(season=1)
    async with serve(forecaster("monthly", 1, card)) as client:
        answer = (await client.post("/v2/anomaly_detection", json=body)).json()
        online = body | {"h": 1, "detection_size": 3}
        newest = (await client.post("/v2/online_anomaly_detection", json=online)).json()
    # After 99 the stand-in expects 100, so the return to 9 is odd as well.
    assert answer["anomaly"] == [False] * 5 + [True, True, False]
    assert answer["sizes"] == [8]
    assert (newest["idxs"], newest["anomaly"]) == ([7, 8, 9], [True, True, False])
    assert newest["anomaly_score"][0] > 1 > abs(newest["anomaly_score"][2])


async def test_timegpt_takes_covariates_in_the_order_of_the_card() -> None:
    card = make_card(past_covariates=("price",), future_covariates=("holiday", "promo"))
    runners = FakeRunners(forecaster("monthly", 1, card))
    app = create_app(load_settings(), runners, Drain())
    series = {
        "y": [1, 2, 3],
        "sizes": [2, 1],
        "X": [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
        "X_future": [[10, 11, 12, 13], [14, 15, 16, 17]],
    }
    body = {"series": series, "freq": "MS", "h": 2}
    async with AsyncClient(transport=ASGITransport(app), base_url="http://gatecast") as client:
        answer = await client.post("/v2/forecast", json=body)
        backtest = body | {"n_windows": 1, "h": 1, "hist_exog": [2]}
        backtest["series"] = {**series, "sizes": [3], "X_future": None}
        second = await client.post("/v2/cross_validation", json=backtest)
    assert (answer.status_code, second.status_code) == (200, 200)
    first = runners.inferences[0].inputs  # the shorter series comes first
    assert first["past_covariates"][1].tolist() == [[7], [8]]
    assert first["future_covariates"][1][:4].tolist() == [[1, 4], [2, 5], [10, 14], [11, 15]]
    assert first["future_covariates"][0][:3].tolist() == [[3, 6], [12, 16], [13, 17]]
    last = runners.inferences[-1].inputs
    assert last["future_covariates"][0][:3].tolist() == [[1, 4], [2, 5], [3, 6]]


async def test_huge_horizon_is_refused_before_anything_of_its_length_is_made() -> None:
    card = make_card(future_covariates=("promo",))
    body = timegpt(values=[1, 2], sizes=[2], h=10**15)
    body["series"] |= {"X": [[1, 2]], "X_future": [[]]}
    async with serve(forecaster("monthly", 1, card)) as client:
        answer = await client.post("/v2/forecast", json=body)
    assert answer.status_code == 422
    assert answer.json()["message"] == "h must be between 1 and 12 for this model"


async def test_value_beyond_an_interval_of_no_width_is_an_anomaly() -> None:
    class Certain:
        card = make_card(season=1)
        interface = Interface.from_card(card)

        def run(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
            del outputs
            return {"quantiles": np.zeros((len(inputs["past_target"]), 12, 5), np.float32)}

    version = forecaster("monthly", 1, Certain.card)
    app = create_app(load_settings(), FakeRunners(version, engine=Certain()), Drain())
    body = {"series": {"y": [0, 0, 1e25, 0], "sizes": [4]}, "freq": "MS", "level": 80}
    async with AsyncClient(transport=ASGITransport(app), base_url="http://gatecast") as client:
        answer = (await client.post("/v2/anomaly_detection", json=body)).json()
    assert answer["anomaly"] == [True, False]
    assert all(math.isfinite(score) for score in answer["anomaly_score"])


async def test_timegpt_tells_limits_models_and_valid_keys() -> None:
    async with serve() as client:
        limits = await client.get("/model_params", params={"model": "timegpt-2.1", "freq": "1MS"})
        models = await client.get("/v2/models")
        key = await client.get("/validate_api_key")
        fine_tuned = await client.get("/v2/finetuned_models")
    assert limits.json() == {"detail": {"input_size": 48, "horizon": 12}}
    assert models.json() == {"models": [{"name": "monthly"}]}
    assert (key.status_code, fine_tuned.json()) == (200, {"finetuned_models": []})


@pytest.mark.parametrize(
    ("alias", "freq"), [("MS", "M"), ("1d", "D"), ("W-SUN", "W"), ("1q", "Q"), ("15min", "15min")]
)
async def test_timegpt_frequency_chooses_the_model(alias: str, freq: str) -> None:
    others = ("s", "30min") if freq == "15min" else ("s", "15min")
    versions = [forecaster(f"by-{f}", 1, make_card(freq=f)) for f in (freq, *others)]
    async with serve(*versions) as client:
        answer = await client.post("/v2/forecast", json=timegpt(freq=alias))
    assert answer.status_code == 200


async def test_model_that_is_not_clear_is_404() -> None:
    versions = [forecaster(name, 1, make_card()) for name in ("a", "b")]
    async with serve(*versions) as client:
        answer = await client.post("/v2/forecast", json=timegpt())
        named = await client.post("/v2/forecast", json=timegpt(model="b"))
    async with serve(*versions, default_model="a") as client:
        default = await client.post("/v2/forecast", json=timegpt())
    assert (answer.status_code, named.status_code, default.status_code) == (404, 200, 200)
    assert "GATECAST_DEFAULT_MODEL" in answer.json()["message"]


DEEPAR = {
    "start": "2009-11-01 00:00:00",
    "target": [4.0, 10.0, "NaN", 100.0, 113.0],
}


async def test_deepar_answers_what_is_asked_for() -> None:
    configuration = {
        "num_samples": 4,
        "output_types": ["mean", "quantiles", "samples"],
        "quantiles": ["0.5", "0.9"],
    }
    body = {"instances": [DEEPAR, DEEPAR], "configuration": configuration}
    async with serve() as client:
        target = [4.0, 10.0, None, 100.0, 113.0]
        levels = [0.125, 0.375, 0.5, 0.625, 0.875, 0.9]
        (want,) = await native(client, target, levels=levels)
        answer = (await client.post("/invocations", json=body)).json()
    first, second = answer["predictions"]
    assert first == second
    assert first.keys() == {"quantiles", "samples", "mean"}
    assert first["quantiles"] == {"0.5": want["0.5"], "0.9": want["0.9"]}
    assert first["mean"] == want["0.5"]
    assert first["samples"] == [want[level] for level in ("0.125", "0.375", "0.625", "0.875")]


async def test_deepar_defaults_are_mean_and_nine_quantiles() -> None:
    async with serve() as client:
        answer = (await client.post("/invocations", json={"instances": [DEEPAR]})).json()
    (prediction,) = answer["predictions"]
    assert prediction.keys() == {"quantiles", "mean"}
    assert list(prediction["quantiles"]) == [f"0.{n}" for n in range(1, 10)]
    assert len(prediction["mean"]) == 12


async def test_deepar_lines_are_answered_by_lines_as_configured() -> None:
    configuration = json.dumps({"output_types": ["quantiles"], "quantiles": ["0.7"]})
    body = "\n".join(json.dumps(one) for one in (DEEPAR, DEEPAR | {"target": [1, None]}))
    headers = {"Content-Type": "application/jsonlines"}
    async with serve(deepar_inference_config=configuration) as client:
        (want,) = await native(client, [1, None], levels=[0.7])
        answer = await client.post("/invocations", content=body, headers=headers)
    lines = answer.text.splitlines()
    assert answer.headers["content-type"].startswith("application/jsonlines")
    assert len(lines) == 2
    assert json.loads(lines[1]) == {"quantiles": want}


async def test_deepar_takes_cat_and_dynamic_feat_in_the_order_of_the_card() -> None:
    card = make_card(static_covariates=("shop", "size"), future_covariates=("promo",), horizon=2)
    runners = FakeRunners(forecaster("monthly", 1, card))
    app = create_app(load_settings(), runners, Drain())
    instance = DEEPAR | {"target": [1, 2], "cat": [3, 4], "dynamic_feat": [[5, 6, 7, 8]]}
    async with AsyncClient(transport=ASGITransport(app), base_url="http://gatecast") as client:
        answer = await client.post("/invocations", json={"instances": [instance]})
    inputs = runners.inferences[0].inputs
    assert answer.status_code == 200
    assert inputs["static_covariates"].tolist() == [[3, 4]]
    assert inputs["future_covariates"].tolist() == [[[5], [6], [7], [8]]]


async def test_container_of_sagemaker_tells_its_state_and_limits() -> None:
    async with serve() as client:
        ping = await client.get("/ping")
        limits = (await client.get("/execution-parameters")).json()
    assert (ping.status_code, ping.content) == (200, b"")
    assert limits.keys() == {"MaxConcurrentTransforms", "BatchStrategy", "MaxPayloadInMB"}


async def test_wrong_deepar_configuration_ends_the_start() -> None:
    with pytest.raises(StartupError, match="deepar_inference_config"):
        serve(deepar_inference_config='{"quantiles": [0.5]}')


async def test_chronos_answers_quantiles_beside_the_mean() -> None:
    inputs = [
        {"target": FIRST, "item_id": "A", "start": "2024-01-01"},
        {"target": SECOND, "item_id": "B", "start": "2024-02-02T03:00:00"},
    ]
    parameters = {
        "prediction_length": 5,
        "quantile_levels": [0.9, 0.1],
        "freq": "1MS",
        "batch_size": 2,
    }
    async with serve() as client:
        want = await native(client, FIRST, SECOND, levels=[0.1, 0.5, 0.9], horizon=5)
        body = {"inputs": inputs, "parameters": parameters}
        answer = (await client.post("/invocations", json=body)).json()
    assert answer["predictions"] == [
        {
            "mean": one["0.5"],
            "0.1": one["0.1"],
            "0.9": one["0.9"],
            "item_id": item_id,
            "start": start,
        }
        for one, item_id, start in zip(
            want, "AB", ("2024-04-01T00:00:00", "2024-04-02T03:00:00"), strict=True
        )
    ]


async def test_chronos_needs_nothing_but_a_target() -> None:
    async with serve() as client:
        answer = (await client.post("/invocations", json={"inputs": [{"target": FIRST}]})).json()
    (prediction,) = answer["predictions"]
    assert prediction.keys() == {"mean", "0.1", "0.5", "0.9"}
    assert len(prediction["mean"]) == 1


async def test_chronos_covariates_known_ahead_are_in_both_mappings() -> None:
    card = make_card(past_covariates=("price",), future_covariates=("promo",))
    runners = FakeRunners(forecaster("monthly", 1, card))
    app = create_app(load_settings(), runners, Drain())
    one = {
        "target": [1, 2],
        "past_covariates": {"promo": [3, 4], "price": [5, 6]},
        "future_covariates": {"promo": [7]},
    }
    async with AsyncClient(transport=ASGITransport(app), base_url="http://gatecast") as client:
        answer = await client.post("/invocations", json={"inputs": [one]})
    inputs = runners.inferences[0].inputs
    assert answer.status_code == 200
    assert inputs["past_covariates"].tolist() == [[[5], [6]]]
    assert inputs["future_covariates"][0, :3].tolist() == [[3], [4], [7]]


@pytest.mark.parametrize("path", ["/predict", "/v1/models/monthly:predict"])
async def test_instances_are_series_or_their_values(path: str) -> None:
    series = {"target": SECOND, "item_id": "b", "start": "2024-01-01"}
    parameters = {"horizon": 2, "quantile_levels": [0.1, 0.9]}
    async with serve() as client:
        want = await native(client, FIRST, SECOND, levels=[0.1, 0.9], horizon=2)
        body = {"instances": [FIRST, series, {"target": []}], "parameters": parameters}
        answer = (await client.post(path, json=body)).json()
    first, second, third = answer["predictions"]
    assert first == {"quantiles": want[0], "notes": ["short_history"]}
    assert second == {
        "item_id": "b",
        "timestamps": ["2024-03-01", "2024-04-01"],
        "notes": ["short_history"],
        "quantiles": want[1],
    }
    assert third["error"]["pointer"] == "/instances/2/target"
    assert (answer["model_name"], answer["model_version"]) == ("monthly", "1")


async def test_vertex_routes_are_those_that_the_platform_names() -> None:
    routes = {
        "vertex_health_route": "/v1/endpoints/1/deployedModels/2",
        "vertex_predict_route": "/v1/endpoints/1/deployedModels/2:predict",
    }
    async with serve(**routes) as client:
        health = await client.get(routes["vertex_health_route"])
        answer = await client.post(routes["vertex_predict_route"], json={"instances": [FIRST]})
        old = await client.post("/predict", json={"instances": [FIRST]})
    assert (health.status_code, answer.status_code, old.status_code) == (200, 200, 404)


@pytest.mark.parametrize("path", ["/livez", "/ping"])
async def test_vertex_may_probe_a_path_that_is_a_probe_already(path: str) -> None:
    async with serve(vertex_health_route=path) as client:
        assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize("path", ["/v1/models/monthly/forecast", "/v2/forecast"])
async def test_vertex_can_not_take_a_path_of_another_api(path: str) -> None:
    with pytest.raises(StartupError, match="taken"):
        serve(vertex_predict_route=path)


async def test_kserve_forecast_has_its_documented_shape() -> None:
    one = {"type": "univariate_time_series", "frequency": "month"}
    body = {
        "model": "monthly",
        "inputs": [
            one | {"name": "a", "series": FIRST, "start_timestamp": "2024-01-01T00:00:00"},
            one | {"name": "b", "series": [], "frequency": "M"},
        ],
        "options": {"horizon": 3, "quantiles": [0.9, 0.1], "temperature": 1},
        "metadata": {"any": "thing"},
    }
    async with serve() as client:
        (want,) = await native(client, FIRST, levels=[0.1, 0.5, 0.9], horizon=3)
        answer = (await client.post("/v1/timeseries/forecast", json=body)).json()
        models = (await client.get("/v1/timeseries/models")).json()
    first, second = answer["outputs"]
    assert answer.keys() == {"id", "created_at", "status", "error", "model", "outputs", "usage"}
    assert (answer["status"], first["status"], second["status"]) == (
        "partial",
        "completed",
        "error",
    )
    assert first["content"] == [
        {
            "type": "univariate_time_series",
            "name": "a",
            "mean_forecast": want["0.5"],
            "frequency": "month",
            "start_timestamp": "2024-04-01T00:00:00",
            "quantiles": {"0.9": want["0.9"], "0.1": want["0.1"]},
        }
    ]
    assert second["error"]["param"] == "inputs.1.series"
    assert second["error"].keys() == {"code", "message", "param", "type"}
    assert models == ["monthly"]


async def test_dialects_are_listed_with_their_paths() -> None:
    async with serve() as client:
        dialects = (await client.get("/v1/models/monthly")).json()["dialects"]
    assert dialects.keys() == {"timegpt", "sagemaker", "chronos", "vertex", "kserve"}
    assert all(path in dialects[name] for name, path in PATHS.items())


@pytest.mark.parametrize("name", PATHS)
async def test_dialect_that_is_off_is_not_there(name: str) -> None:
    others = ",".join({"timegpt", "sagemaker", "vertex", "kserve"} - {name})
    async with serve(dialects=others) as client:
        statuses = {n: (await client.post(p, json={})).status_code for n, p in PATHS.items()}
        dialects = (await client.get("/v1/models/monthly")).json()["dialects"]
        document = (await client.get("/openapi.json")).json()
    assert statuses[name] in {404, 405}
    assert all(status in {400, 422} for n, status in statuses.items() if n != name)
    assert name not in dialects
    assert PATHS[name] not in document["paths"]


async def test_chronos_can_be_off_while_deepar_is_on() -> None:
    async with serve(dialects="sagemaker") as client:
        answer = await client.post("/invocations", json={"inputs": [{"target": [1]}]})
    assert (answer.status_code, "DeepAR" in answer.json()["message"]) == (400, True)


async def test_all_dialects_can_be_off(app: FastAPI) -> None:
    assert "/v2/forecast" in {getattr(route, "path", "") for route in app.routes}
    async with serve(dialects="") as client:
        assert (await client.post("/invocations", json={})).status_code == 404


async def test_unknown_dialect_ends_the_start() -> None:
    with pytest.raises(StartupError, match="GATECAST_DIALECTS: knows no soap"):
        load_settings(dialects="timegpt,soap")
