from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from models.backtest import forecast_by_methods, rolling_windows, summarise
from models.backtest_pictures import FANS_FILE, RELIABILITY_FILE, draw_backtest
from models.config import NetworkConfig
from models.forecaster import Forecaster
from models.series import Series, SeriesSet


@pytest.mark.parametrize("is_constant", [False, True])
def test_pictures_are_drawn(
    tiny_config: NetworkConfig, waves: SeriesSet, tmp_path: Path, *, is_constant: bool
) -> None:
    if is_constant:  # no MASE is defined
        waves = SeriesSet((Series("flat", np.full(30, 5.0)),), None, waves.season)
    torch.manual_seed(0)
    network = Forecaster(tiny_config).eval()
    windows = rolling_windows(waves, horizon=4, num_windows=2)
    forecasts = forecast_by_methods(
        network, windows, season=waves.season, horizon=4, context_length=64
    )
    draw_backtest(forecasts, summarise(forecasts), tmp_path / "pictures")
    for name in (FANS_FILE, RELIABILITY_FILE):
        picture = imread(tmp_path / "pictures" / name)
        assert np.unique(picture[..., :3].reshape(-1, 3), axis=0).shape[0] > 20
