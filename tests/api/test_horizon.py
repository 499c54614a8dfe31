"""Horizons beyond the model's, and the notes on a forecast."""

from typing import Any

import httpx
import numpy as np
import pytest

from app.gateway.drain import Drain
from app.gateway.main import create_app
from app.settings import Settings
from tests.api.raw import FORECAST_PATH
from tests.fakes import FakeRunners, forecaster, make_card

SEASON = 4
LEVELS = (0.1, 0.5, 0.9)
CARD = make_card(horizon=3, season=SEASON, context_length=20, quantile_levels=LEVELS)
LONG: list[float | None] = [float(value) for value in range(1, 13)]


@pytest.fixture
def runners() -> FakeRunners:
    return FakeRunners(forecaster("monthly", 1, CARD))


async def post(
    runners: FakeRunners, settings: Settings, *targets: list[float | None], **body: Any
) -> httpx.Response:
    transport = httpx.ASGITransport(create_app(settings, runners, Drain()))
    series = [{"target": target} for target in targets]
    async with httpx.AsyncClient(transport=transport, base_url="http://gatecast") as client:
        return await client.post(FORECAST_PATH, json={"series": series, **body})


async def test_longer_horizon_goes_on_from_the_medians(
    runners: FakeRunners, settings: Settings
) -> None:
    answer = (await post(runners, settings, LONG, horizon=5)).json()
    assert answer["horizon"] == 5
    assert answer["forecasts"][0]["quantiles"]["0.5"] == [13, 14, 15, 16, 17]
    past = runners.inferences[1].inputs["past_target"][0]
    np.testing.assert_array_equal(past, [*LONG, 13, 14, 15])


async def test_first_steps_of_a_longer_horizon_are_the_models_own(
    runners: FakeRunners, settings: Settings
) -> None:
    longer = (await post(runners, settings, LONG, horizon=6)).json()["forecasts"][0]["quantiles"]
    own = (await post(runners, settings, LONG)).json()["forecasts"][0]["quantiles"]
    assert {level: values[:3] for level, values in longer.items()} == own


async def test_intervals_beyond_the_horizon_are_no_narrower(
    runners: FakeRunners, settings: Settings
) -> None:
    answer = (await post(runners, settings, LONG, [5], horizon=6)).json()
    for forecast in answer["forecasts"]:
        low, high = (np.array(forecast["quantiles"][level]) for level in ("0.1", "0.9"))
        assert (np.diff(high - low) >= 0).all()


async def test_medians_push_old_values_out_of_the_context(
    runners: FakeRunners, settings: Settings
) -> None:
    await post(runners, settings, [1.0] * 20, horizon=6)
    assert runners.inferences[1].inputs["past_target"].shape == (1, 20)


async def test_horizon_beyond_the_factor_is_refused(
    runners: FakeRunners, settings: Settings
) -> None:
    assert settings.max_horizon_factor == 2
    answer = await post(runners, settings, LONG, horizon=7)
    assert answer.status_code == 422
    assert "horizon must be between 1 and 6" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("target", "horizon", "notes"),
    [
        (LONG, 3, None),
        ([5], 3, ["short_history"]),
        ([5, 6], 3, ["short_history"]),
        (LONG[:7], 3, ["short_history"]),
        (LONG[:8], 3, None),
        ([None, None, None, *LONG[:8]], 3, None),
        ([*LONG[:8], None, None, None], 3, ["many_missing"]),
        (LONG, 4, ["extrapolated_horizon"]),
        ([5, None, 6], 6, ["short_history", "many_missing", "extrapolated_horizon"]),
    ],
)
async def test_notes_tell_what_a_reader_should_know(
    runners: FakeRunners,
    settings: Settings,
    target: list[float | None],
    horizon: int,
    notes: list[str] | None,
) -> None:
    forecast = (await post(runners, settings, target, horizon=horizon)).json()["forecasts"][0]
    assert forecast.get("notes") == notes
