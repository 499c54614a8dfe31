"""Embeddings of categories, and what a network learns from them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from models.categories import CategoryEmbeddings, embedding_size
from models.config import NetworkConfig
from models.fitting import Place, fit_forecaster
from models.forecaster import Forecaster
from models.series import Series, SeriesSet
from models.training import TrainingOptions

NUM_KNOWN = 3
MEDIAN = 6


@pytest.fixture
def embeddings() -> CategoryEmbeddings:
    torch.manual_seed(1)
    return CategoryEmbeddings((NUM_KNOWN, 1)).eval()


@pytest.mark.parametrize("code", [0.0, -1.0, 4.0, 1e30, float("nan"), float("inf")])
def test_whatever_is_not_known_shares_the_unknown_row(
    embeddings: CategoryEmbeddings, code: float
) -> None:
    unknown = embeddings(torch.tensor([[0.0, 1.0]]))
    assert torch.equal(embeddings(torch.tensor([[code, 1.0]])), unknown)


def test_known_categories_have_rows_of_their_own(embeddings: CategoryEmbeddings) -> None:
    rows = embeddings(torch.tensor([[code, 1.0] for code in range(NUM_KNOWN + 1)]))
    assert rows.shape == (NUM_KNOWN + 1, embeddings.size)
    assert len(rows.unique(dim=0)) == NUM_KNOWN + 1


def test_training_hides_some_categories(embeddings: CategoryEmbeddings) -> None:
    known = torch.ones(1000, 2)
    rows = embeddings.train()(known)[:, : embedding_size(NUM_KNOWN)]
    assert len(rows.unique(dim=0)) == 2


def test_size_grows_slowly_with_the_categories() -> None:
    assert [embedding_size(count) for count in (1, 10, 100, 10_000)] == [2, 6, 16, 16]


@pytest.fixture
def by_direction() -> SeriesSet:
    """Lines that rise or fall as their category says, which a single value can not tell."""
    random, steps = np.random.default_rng(2), np.arange(20)
    series = [
        Series(
            f"{row}",
            500 + (1 if row % 2 else -1) * 10.0 * steps + random.normal(0, 1, 20),
            static_covariates=np.array([1.0 + row % 2]),
        )
        for row in range(8)
    ]
    return SeriesSet(
        tuple(series),
        freq=None,
        season=1,
        static_covariates=("direction",),
        static_categories=(("falling", "rising"),),
    )


def test_network_learns_from_categories_and_from_their_absence(
    by_direction: SeriesSet, tmp_path: Path
) -> None:
    config = NetworkConfig(
        horizon=2,
        window=4,
        transform="identity",
        hidden_size=8,
        num_layers=1,
        dropout=0.0,
        static_covariates=by_direction.static_covariates,
        static_categories=by_direction.static_categories,
    )
    options = TrainingOptions(
        max_steps=60, batch_size=8, steps_per_check=30, fixed_steps=True, learning_rate=0.02
    )
    network = fit_forecaster(
        by_direction, config, options=options, place=Place(tmp_path, Console(quiet=True))
    ).network

    falling, unknown, rising = (median_after_two_values(network, code) for code in (1, 0, 2))

    assert falling < unknown < rising


def median_after_two_values(network: Forecaster, code: int) -> float:
    inputs = {
        "past_target": torch.tensor([[495.0, 505.0]]),
        "sequence_lens": torch.tensor([2], dtype=torch.int32),
        "static_covariates": torch.tensor([[float(code)]]),
    }
    with torch.inference_mode():
        quantiles = network(network.initial_state(1) | inputs)["quantiles"]
    return float(quantiles[0, -1, MEDIAN])


def test_config_without_categories_has_no_embeddings() -> None:
    network = Forecaster(NetworkConfig(horizon=2, static_covariates=("size",)))
    assert not any("categories" in name for name in network.state_dict())


def test_members_learn_embeddings_of_their_own() -> None:
    config = NetworkConfig(
        horizon=2, num_members=2, static_covariates=("kind",), static_categories=(("a", "b"),)
    )
    names = [name for name in Forecaster(config).state_dict() if "categories" in name]
    assert names == [f"members.{number}.categories.tables.0.weight" for number in (0, 1)]
