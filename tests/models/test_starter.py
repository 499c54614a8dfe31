import pytest
import torch

from app.artifact.card import Training
from models.checkpoint import Checkpoint
from models.config import NetworkConfig
from models.forecaster import Forecaster
from models.starter import (
    M3_MONTHLY,
    TOURISM_MONTHLY,
    Competition,
    load_competition,
    score_test_part,
    training_part,
)


@pytest.mark.parametrize(
    ("competition", "num_series", "num_values", "naive_mase"),
    [
        pytest.param(M3_MONTHLY, 1428, 141_858, 1.146, id="M3"),
        pytest.param(TOURISM_MONTHLY, 366, 100_496, 1.631, id="Tourism"),
    ],
)
def test_seasonal_naive_scores_what_was_published(
    competition: Competition, num_series: int, num_values: int, naive_mase: float
) -> None:
    items = load_competition(competition)
    assert len(items.series) == num_series
    assert training_part(items, competition).num_observations == num_values
    torch.manual_seed(0)
    network = Forecaster(NetworkConfig(horizon=24, season=12, hidden_size=2, num_layers=1)).eval()
    training = Training(data_digest="0" * 64, num_series=1, num_observations=1, seed=1, config={})
    checkpoint = Checkpoint(network, "M", context_length=512, training=training)
    scores = score_test_part(checkpoint, items, competition).seasonal_naive
    assert round(scores.mase, 3) == naive_mase
