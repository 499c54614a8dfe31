import msgspec
import numpy as np
import pytest
from httpx import AsyncClient

from app.gateway.drain import Drain
from app.gateway.forecast_schemas import ForecastResponse
from app.gateway.main import create_app
from app.runner.engine import OrtEngine
from app.settings import Settings, load_settings
from tests.api.raw import FORECAST_PATH, call
from tests.fakes import LEVELS, FakeRunners, drift_forecast, forecaster
from tests.tiny_artifact import tiny_artifact

FLOAT32_TOLERANCE = 1e-6
"""Relative: one rounding to 32 bits."""

BATCH_TOLERANCE = 1e-5
"""Relative: what the project promises for an answer in company against one alone."""


async def test_answer_matches_its_documented_form(client: AsyncClient) -> None:
    series = [{"target": [1, 2], "item_id": "a", "start": "2024-01-31"}, {"target": []}]
    answer = await client.post(FORECAST_PATH, json={"series": series})
    decoded = msgspec.json.decode(answer.content, type=ForecastResponse)
    assert [one.item_id for one in decoded.forecasts] == ["a", msgspec.UNSET]
    assert answer.headers["content-type"] == "application/json"


async def test_forecast_is_the_models_at_every_level(client: AsyncClient) -> None:
    answer = await client.post(FORECAST_PATH, json={"series": [{"target": [5, None, 7.5, 9]}]})
    quantiles = answer.json()["forecasts"][0]["quantiles"]
    target = np.array([5, np.nan, 7.5, 9], np.float32)
    assert list(quantiles) == [repr(level) for level in LEVELS]
    for level in LEVELS:
        expected = drift_forecast(target, 12, level)
        np.testing.assert_allclose(quantiles[repr(level)], expected, FLOAT32_TOLERANCE)


async def test_answers_keep_the_order_of_the_request(client: AsyncClient) -> None:
    lengths = [40, 3, 17, 1, 29, 8]
    series = [{"item_id": str(n), "target": [float(n)] * n} for n in lengths]
    answer = await client.post(FORECAST_PATH, json={"series": series, "quantile_levels": [0.5]})
    forecasts = answer.json()["forecasts"]
    assert [one["item_id"] for one in forecasts] == [str(n) for n in lengths]
    assert [one["quantiles"]["0.5"][0] for one in forecasts] == [n + 1.0 for n in lengths]


async def test_newest_ready_version_answers(client: AsyncClient) -> None:
    answer = await client.post(FORECAST_PATH, json={"series": [{"target": [1]}]})
    assert answer.json()["model_version"] == 2


async def test_a_version_can_be_asked_for(client: AsyncClient) -> None:
    path = "/v1/models/monthly/versions/1/forecast"
    answer = await client.post(path, json={"series": [{"target": [1]}]})
    assert (answer.json()["model_version"], answer.json()["horizon"]) == (1, 3)


async def test_shorter_horizon_is_the_beginning_of_the_whole(client: AsyncClient) -> None:
    series = [{"target": [3, 4]}]
    whole = (await client.post(FORECAST_PATH, json={"series": series})).json()
    part = (await client.post(FORECAST_PATH, json={"series": series, "horizon": 5})).json()
    assert part["forecasts"][0]["quantiles"]["0.9"] == whole["forecasts"][0]["quantiles"]["0.9"][:5]


async def test_levels_between_trained_ones_are_interpolated(client: AsyncClient) -> None:
    body = {"series": [{"target": [0, 0, 0, 0]}], "quantile_levels": [0.1, 0.15, 0.2, 0.9]}
    quantiles = (await client.post(FORECAST_PATH, json=body)).json()["forecasts"][0]["quantiles"]
    first = [quantiles[level][0] for level in ("0.1", "0.15", "0.2", "0.9")]
    np.testing.assert_allclose(first, [-0.6, -0.4, -0.2, 2.6], rtol=FLOAT32_TOLERANCE)


@pytest.mark.parametrize(
    ("start", "last"),
    [
        ("2024-01-31", "2024-05-31"),
        ("2024-01-01", "2024-05-01"),
        ("2024-01-01T00:00:00+02:00", "2024-05-01T00:00:00+02:00"),
        ("2023-12-31T22:00:00+00:00", "2024-04-30T22:00:00+00:00"),
    ],
)
async def test_start_gives_time_stamps(client: AsyncClient, start: str, last: str) -> None:
    body = {"series": [{"target": [1, 2], "start": start}], "horizon": 3}
    forecast = (await client.post(FORECAST_PATH, json=body)).json()["forecasts"][0]
    assert (len(forecast["timestamps"]), forecast["timestamps"][-1]) == (3, last)


async def test_freq_of_the_request_serves_a_model_without_one(client: AsyncClient) -> None:
    body = {"freq": "15min", "series": [{"target": [1], "start": "2024-01-01"}], "horizon": 1}
    answer = await client.post("/v1/models/free/forecast", json=body)
    assert answer.json()["forecasts"][0]["timestamps"] == ["2024-01-01T00:15:00"]


async def test_long_series_keep_their_newest_values(
    client: AsyncClient, runners: FakeRunners
) -> None:
    await client.post(FORECAST_PATH, json={"series": [{"target": list(range(100))}]})
    past_target = runners.inferences[0].inputs["past_target"]
    np.testing.assert_array_equal(past_target, [np.arange(52, 100, dtype=np.float32)])


async def test_covariates_reach_the_model_in_its_order(
    client: AsyncClient, runners: FakeRunners
) -> None:
    series = {
        "target": [1, 2],
        "past_covariates": {"price": [9, None]},
        "future_covariates": {"promo/week": [0, 1, 2], "holiday": [5, 6, 7]},
        "static_covariates": {"size": 4},
    }
    answer = await client.post("/v1/models/shop/forecast", json={"series": [series], "horizon": 1})
    inputs = runners.inferences[0].inputs
    assert answer.status_code == 200
    np.testing.assert_array_equal(inputs["past_covariates"], [[[9], [np.nan]]])
    np.testing.assert_array_equal(inputs["future_covariates"][0, :3], [[5, 0], [6, 1], [7, 2]])
    assert np.isnan(inputs["future_covariates"][0, 3:]).all()
    assert inputs["future_covariates"].shape == (1, 2 + 12, 2)
    np.testing.assert_array_equal(inputs["static_covariates"], [[4]])


async def test_request_is_cut_into_chunks_of_similar_lengths(runners: FakeRunners) -> None:
    settings = load_settings(max_batch_size=4, max_batch_steps=60, max_padding_share=0.25)
    app = create_app(settings, runners, Drain())
    lengths = [1, 40, 10, 11, 39, 12, 12, 12, 2, 1]
    series = [{"target": [1.0] * length} for length in lengths]
    answer = await call(app, [msgspec.json.encode({"series": series})])
    shapes = [i.inputs["past_target"].shape for i in runners.inferences]
    assert answer.status == 200
    assert sum(rows for rows, _ in shapes) == len(lengths)
    assert all(rows <= 4 and (rows == 1 or rows * time <= 60) for rows, time in shapes)


async def test_real_model_answers_a_series_in_company_as_alone(settings: Settings) -> None:
    engine = OrtEngine.from_bytes(tiny_artifact(), "cpu")
    runners = FakeRunners(forecaster("monthly", 1, engine.card), engine=engine)
    app = create_app(settings, runners, Drain())
    random = np.random.default_rng(5)
    series: list[dict[str, list[float]]] = [
        {"target": random.gamma(3, 50, n).tolist()} for n in (1, 7, 30, 30, 61, 200)
    ]
    together = await call(app, [msgspec.json.encode({"series": series})])
    decoded = msgspec.json.decode(together.body, type=ForecastResponse)
    for one, forecast in zip(series, decoded.forecasts, strict=True):
        alone = await call(app, [msgspec.json.encode({"series": [one]})])
        expected = msgspec.json.decode(alone.body, type=ForecastResponse).forecasts[0]
        assert isinstance(forecast.quantiles, dict)
        assert isinstance(expected.quantiles, dict)
        for level, values in expected.quantiles.items():
            np.testing.assert_allclose(forecast.quantiles[level], values, BATCH_TOLERANCE)


async def test_quantiles_never_cross_at_any_level(settings: Settings) -> None:
    engine = OrtEngine.from_bytes(tiny_artifact(), "cpu")
    runners = FakeRunners(forecaster("monthly", 1, engine.card), engine=engine)
    levels = np.linspace(0.1, 0.9, 99).round(6).tolist()
    body = {"series": [{"target": [3e5, 1, 7, 2]}], "quantile_levels": levels}
    answer = await call(create_app(settings, runners, Drain()), [msgspec.json.encode(body)])
    decoded = msgspec.json.decode(answer.body, type=ForecastResponse)
    quantiles = decoded.forecasts[0].quantiles
    assert isinstance(quantiles, dict)
    assert (np.diff(np.array(list(quantiles.values())), axis=0) >= 0).all()


async def test_ten_thousand_series_are_answered(runners: FakeRunners) -> None:
    app = create_app(load_settings(), runners, Drain())
    series = [{"target": [float(n)] * (1 + n % 40), "start": "2020-01-01"} for n in range(10_000)]
    answer = await call(app, [msgspec.json.encode({"series": series, "quantile_levels": [0.5]})])
    decoded = msgspec.json.decode(answer.body, type=ForecastResponse)
    first = [
        one.quantiles["0.5"][0] for one in decoded.forecasts if isinstance(one.quantiles, dict)
    ]
    assert first == [n + 1.0 for n in range(10_000)]


async def test_card_without_covariates_takes_none(client: AsyncClient) -> None:
    series: dict[str, object] = {
        "target": [1],
        "past_covariates": {},
        "static_covariates": None,
    }
    answer = await client.post(FORECAST_PATH, json={"series": [series]})
    assert answer.status_code == 200
