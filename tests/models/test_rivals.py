import numpy as np
import pytest

pytest.importorskip("statsforecast")

from models.rivals import RIVALS, forecast_rival

WAVE = 50 + 10 * np.sin(np.arange(96) * 2 * np.pi / 12)


@pytest.mark.parametrize("name", RIVALS)
def test_rival_follows_the_season_in_order_of_levels(name: str) -> None:
    history = WAVE[:84].copy()
    history[[0, 40]] = np.nan
    forecast = forecast_rival(name, history, season=12, horizon=12)
    assert forecast.shape == (12, 9)
    assert (np.diff(forecast, axis=-1) >= 0).all()
    np.testing.assert_allclose(forecast[:, 4], WAVE[84:], atol=3)


def test_season_of_a_week_of_hours_is_taken() -> None:
    assert np.isfinite(forecast_rival("AutoETS", WAVE, season=168, horizon=3)).all()
