from pathlib import Path

import pytest
import torch

from app.artifact.card import Accuracy, Training
from app.errors import InvalidInputError
from models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from models.config import NetworkConfig
from models.forecaster import Forecaster

TRAINING = Training(
    data_digest="0" * 64, num_series=2, num_observations=30, seed=1, config={"max_steps": 5}
)
ACCURACY = Accuracy(
    data_set="test part",
    num_series=2,
    mase=0.8,
    smape=13.0,
    weighted_quantile_loss=0.1,
    coverage_80=0.79,
    seasonal_naive_mase=1.1,
    seasonal_naive_smape=17.0,
    seasonal_naive_weighted_quantile_loss=0.12,
)


@pytest.fixture
def checkpoint(tiny_config: NetworkConfig) -> Checkpoint:
    torch.manual_seed(0)
    network = Forecaster(tiny_config).eval()
    return Checkpoint(network, "M", 512, TRAINING, (ACCURACY,), "a test")


def test_what_is_saved_is_loaded(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(checkpoint, tmp_path)
    loaded = load_checkpoint(tmp_path)
    assert loaded.network.config == checkpoint.network.config
    assert not loaded.network.training
    assert (loaded.freq, loaded.context_length, loaded.training) == ("M", 512, TRAINING)
    assert (loaded.accuracy, loaded.description) == ((ACCURACY,), "a test")
    weights = checkpoint.network.state_dict()
    for name, value in loaded.network.state_dict().items():
        assert torch.equal(value, weights[name])


def test_directory_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"holds no checkpoint: forecaster\.json"):
        load_checkpoint(tmp_path)


def test_missing_weights_are_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(checkpoint, tmp_path)
    (tmp_path / "forecaster.pt").unlink()
    with pytest.raises(InvalidInputError, match=r"holds no checkpoint: forecaster\.pt"):
        load_checkpoint(tmp_path)


def test_damaged_weights_are_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(checkpoint, tmp_path)
    (tmp_path / "forecaster.pt").write_bytes(b"nothing")
    with pytest.raises(InvalidInputError, match="damaged or not a file of weights"):
        load_checkpoint(tmp_path)


def test_description_of_another_format_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(checkpoint, tmp_path)
    (tmp_path / "forecaster.json").write_text('{"format_version": 9}')
    with pytest.raises(InvalidInputError, match="is not of this format: format_version"):
        load_checkpoint(tmp_path)


def test_weights_of_another_network_are_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(checkpoint, tmp_path)
    weights = (tmp_path / "forecaster.pt").read_bytes()
    other = Checkpoint(Forecaster(NetworkConfig(horizon=9)).eval(), "M", 512, TRAINING)
    save_checkpoint(other, tmp_path)
    (tmp_path / "forecaster.pt").write_bytes(weights)
    with pytest.raises(InvalidInputError, match="does not belong to the forecaster"):
        load_checkpoint(tmp_path)
